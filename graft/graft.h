// The library: everything that a program needs to load a model, adapt it, merge it and use it.
//
//   models/files/checkpoint.h  LoadModel, AdaptClasses, SaveModel
//   models/model.h             BuildModel; vit.h and bert.h have inputs, outputs and parameters
//   peft/method.h              ParseMethod("lora(r=4)")
//   adapters/method_graph.h    a model's graph with a method
//   autograd/train_step.h      one step: forward, backward, update
//   runtime/session.h          inference
//   adapters/fuse.h            a method merged into the weights, with a proof
//   adapters/open_model.h      a run or an adapter, ours or Hugging Face peft's, on its base
//   adapters/joint_model.h     several adapters on one base
//   adapters/fused_model.h     either of them merged, and written
//   train/complete_config.h    what graft train does: CompleteRunConfig, RunDir::Create, Train
//   runtime/process_group.h    the processes that mpirun started, which train together
//   train/dataset.h            labelled images and texts
//   train/evaluator.h          accuracy and logits over them
//   models/text/tokenizer.h    a text as the rows that a BERT reads
//   data/preprocess.h          an image file as the pixels that a vision transformer reads
//   runtime/io/safetensors.h   tensors of a ParamStore in a file
//
// docs/library.md has the rules of threads, errors and ownership.
#pragma once

#include "adapters/fuse.h"
#include "adapters/fused_model.h"
#include "adapters/joint_model.h"
#include "adapters/method_graph.h"
#include "adapters/open_model.h"
#include "autograd/train_step.h"
#include "data/preprocess.h"
#include "models/files/checkpoint.h"
#include "models/text/tokenizer.h"
#include "runtime/io/safetensors.h"
#include "runtime/process_group.h"
#include "train/complete_config.h"
#include "train/dataset.h"
#include "train/evaluator.h"
#include "train/proof.h"
#include "train/trainer.h"
