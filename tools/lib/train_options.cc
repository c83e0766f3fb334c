#include "tools/lib/train_options.h"

namespace graft {

void AddStepOptions(CLI::App& command, RunConfig& c) {
  command.add_option("--arch", c.arch, "architecture, where the checkpoint does not tell");
  command.add_flag("--skip-bad", c.skip_bad, "leave out files and rows that cannot be read");
  command.add_option("--epochs", c.epochs, "passes over the training examples")
      ->capture_default_str();
  command.add_option("--batch-size", c.batch_size,
                     "examples per optimizer step (default: 64, of labelled texts 16)");
  command.add_option("--micro-batch", c.micro_batch, "examples computed at once (default: chosen)");
  command.add_option("--lr", c.lr, "peak learning rate (default: by method)");
  command.add_option("--no-decay", c.no_decay,
                     "what weight decay leaves alone: bias, norm, vector, or names or parts of "
                     "them with *, joined by |");
  command.add_option("--lr-scale", c.lr_scale,
                     "factors of the rate by parameter, e.g. \"head=10|lora_b=16\"; words as of "
                     "--no-decay");
  command.add_option("--weight-decay", c.weight_decay, "of every trainable tensor")
      ->capture_default_str();
  command.add_option("--schedule", c.schedule, "cosine, linear or constant")->capture_default_str();
  command.add_option("--warmup", c.warmup, "share of the steps that warm up")
      ->capture_default_str();
  command.add_option("--label-smoothing", c.label_smoothing, "of the loss")->capture_default_str();
  command.add_option("--drop-path", c.drop_path, "rate of the last block")->capture_default_str();
  command.add_option("--optimizer", c.optimizer, "adamw or sgd")->capture_default_str();
  command.add_option("--momentum", c.momentum, "of sgd")->capture_default_str();
  command.add_option("--clip", c.clip, "global gradient norm (0: no clipping)")
      ->capture_default_str();
  command.add_option("--limit", c.limit,
                     "N training examples only: the first, or evenly spaced ones of folders");
  command.add_option("--augment", c.augment,
                     "random changes of training images, e.g. \"flip,crop=0.8\", or a preset; "
                     "'list' shows them");
  command.add_option("--preprocess", c.preprocess,
                     "of images: preset or full text; 'list' shows the presets");
  command.add_option("--columns", c.columns,
                     "of tables: TEXT,LABEL or TEXT,SECOND,LABEL, names or numbers from 1; "
                     "several columns of labels joined by | (default: the usual names)");
  command.add_option("--tokenizer", c.tokenizer,
                     "of texts: vocab.txt or tokenizer.json (default: the model's)");
  command
      .add_option(
          "--max-length", c.max_length,
          "of texts: most tokens of one (default: 128 or, if fewer, the model's positions or "
          "its tokenizer's model_max_length)")
      ->check(CLI::Range(kLeastMaxLength, kMostMaxLength));
  command.add_option("--pool", c.pool,
                     "of a BERT: pooler, cls or mean, what the head reads (default: the model's)");
  command.add_flag("--new-head", c.new_head,
                   "a fresh head, though the model's own would serve these classes");
  command.add_option("--save-every", c.save_every, "also save after every N steps");
}

void AddTrainingOptions(CLI::App& command, RunConfig& c) {
  AddStepOptions(command, c);
  command.add_option("--head", c.head,
                     "of a BERT: mlm, its masked-LM head and label words instead of a classifier");
  command.add_option("--template", c.prompt,
                     "of --head mlm: e.g. \"{text} It was [MASK].\", of pairs {text_a}, {text_b}");
  command.add_option("--words", c.words,
                     "of --head mlm: the words of each class, e.g. \"terrible,bad|great,good\"");
  command.add_option("--class-weights", c.class_weights,
                     "in the loss: balanced, or a number for each class joined by '|'");
}

void TakeDefaults(const CLI::App& command, RunConfig* c) {
  if (command.count("--batch-size") == 0)
    c->batch_size = kBatchByKind;
  else if (c->batch_size < 1)  // which may stand for the above
    FailUsage("--batch-size: expected 1 to 65536, found {}", c->batch_size);
  if (command.count("--lr") > 0 && c->lr == 0)  // 0 stands for the method's own
    FailUsage(
        "--lr 0: expected more than 0, at most 1000000; hint: leave it out for the method's own "
        "rate");
}

}  // namespace graft
