// Recipes of every method and their counts, for a tiny ViT and a tiny BERT.
#pragma once
#include "models/model.h"

namespace graft {

inline const VitConfig kTiny{.image_size = 8,
                             .patch_size = 4,
                             .width = 12,
                             .depth = 3,
                             .heads = 3,
                             .mlp_width = 20,
                             .classes = 5};

// It has the same widths; methods that need M = cD are tried on it alone.
inline const BertConfig kTinyBert{.vocab = 30,
                                  .positions = 16,
                                  .width = 12,
                                  .depth = 2,
                                  .heads = 3,
                                  .mlp_width = 24,
                                  .classes = 5};

struct Case {
  const char* method;
  int64_t trainable;  // without the head, from the records' formulas at kTiny: D=12, M=20, L=3,
                      // n=4, 3PP=48; kTexts: for the text model alone
  bool adds_nodes;
  bool starts_plain = true, folds = true;
};
constexpr int64_t kTexts = -1;
// A bottleneck of width r on D=12, and SSF on all layers and norms.
constexpr int64_t Bottle(int64_t r) { return 2 * 12 * r + r + 12; }
constexpr int64_t kSsf = 2 * (12 + 3 * (6 * 12 + 20 + 12) + 12);
constexpr int64_t Keys(int64_t tokens) { return 2 * 3 * tokens * 12; }
constexpr int64_t Glora(int64_t r) {
  constexpr auto layer = [](int64_t rank, int64_t out, int64_t in) {
    return 2 * rank * (out + in) + rank * (in + 1) + 2 * out;
  };
  return 3 * (layer(r, 36, 12) + layer(r, 12, 12) + layer(r, 20, 12) + layer(r, 12, 20));
}
inline const Case kCases[] = {
    {"full", 48 * 12 + 12 + 12 + 5 * 12 + 3 * (4 * (144 + 12) + 4 * 12 + 2 * 240 + 20 + 12) + 24,
     false},
    {"linear", 0, false},
    {"ln", 3 * 4 * 12 + 2 * 12, false},
    {"bitfit", 12 + 3 * (7 * 12 + 20) + 12, false},
    {"last(k=1)", 4 * (144 + 12) + 4 * 12 + 2 * 240 + 20 + 12 + 24, false},
    {"lora(r=2)", 3 * 2 * 2 * 24, true},
    {"lora(r=3,alpha=6,targets=attn.*|mlp.*)", 3 * (4 * 3 * 24 + 2 * 3 * 32), true},
    {"lora(r=2,targets=blocks.1.mlp.fc1,rslora=true)", 2 * 32, true},
    {"lora(r=2,dropout=0.3)", 3 * 2 * 2 * 24, true},
    {"ln(targets=norm1|norm)", 3 * 2 * 12 + 2 * 12, false},
    {"lora(r=2,bias=lora_only)", 3 * 2 * (2 * 24 + 12), true},
    {"lora(r=2,bias=all)", 3 * 2 * 2 * 24 + 12 + 3 * (7 * 12 + 20) + 12, true},
    {"lora(r=2,targets=attn.q)+lora(r=3,alpha=5,targets=blocks.1.mlp.fc2|head)",
     3 * 2 * 24 + 3 * (20 + 12) + 3 * (12 + 5), true},
    {"lora(r=2)+ln", 3 * 2 * 2 * 24 + 3 * 4 * 12 + 2 * 12, true},
    {"houlsby(r=2)", 3 * 2 * Bottle(2), true, false, false},
    {"houlsby(r=2,act=none,scale=0.5)", 3 * 2 * Bottle(2), true, false, true},
    {"houlsby(r=2,act=silu,scale=learned,ln=true)", 3 * 2 * (Bottle(2) + 1) + 3 * 4 * 12 + 24, true,
     false, false},
    {"pfeiffer(r=2)", 3 * Bottle(2), true, false, false},
    {"adaptformer(r=2,dropout=0.3)", 3 * Bottle(2), true, true, false},
    {"adaptformer(r=2,blocks=0)+adaptformer(r=3,blocks=1)", Bottle(2) + Bottle(3), true, true,
     false},
    {"lora(r=2,targets=attn.*,blocks=0-1)+pfeiffer(r=2,blocks=1)", 2 * 4 * 2 * 24 + Bottle(2), true,
     false, false},
    {"parallel(r=2,blocks=0)+houlsby(r=2,blocks=1)", Bottle(2) + 2 * Bottle(2), true, false, false},
    {"adaptformer(r=2,scale=learned,act=none)", 3 * (Bottle(2) + 1), true, true, false},
    {"parallel(r=2)", 3 * Bottle(2), true, true, false},
    {"parallel(r=2,site=attn,scale=4,act=gelu)", 3 * Bottle(2), true, true, false},
    {"mam(tokens=2,r=3)", Keys(2) + 3 * Bottle(3), true, false, false},
    {"prefix(tokens=2,mlp=5)", 2 * 12 + 5 * 13 + 6 * Keys(1), true, false, false},
    {"prefix(tokens=2,mlp=0)", Keys(2), false, false, false},
    {"prefix(tokens=2,mlp=0,dropout=0.3)", Keys(2), true, false, false},
    {"ptuning2(tokens=3)", Keys(3), false, false, false},
    {"prompt(tokens=2)", 2 * 12, true, false, false},
    {"vpt(tokens=2)", 2 * 12, true, false, false},
    {"vpt(tokens=2,dropout=0.3)", 2 * 12, true, false, false},
    {"vpt-deep(tokens=2)", 3 * 2 * 12, true, false, false},
    {"vpt-deep(tokens=2,blocks=0)", 2 * 12, true, false, false},
    {"vpt-deep(tokens=2,blocks=0-1)+lora(r=2)", 2 * 2 * 12 + 3 * 2 * 2 * 24, true, false, false},
    {"lora(r=2,targets=attn.q|attn.k|attn.v,fused=true)", 3 * 2 * 48, true},
    {"lora(r=2,targets=attn.*,fused=true,dropout=0.3)", 3 * 2 * (48 + 24), true},
    {"houlsby(r=2,site=mlp,act=quick_gelu,dropout=0.3)", 3 * Bottle(2), true, false, false},
    {"houlsby(r=2,site=attn)", 3 * Bottle(2), true, false, false},
    {"vpt-deep(tokens=2,form=tokens)", 3 * 2 * 12, true, false, false},
    {"vpt-deep(tokens=2,dropout=0.3)", 3 * 2 * 12, true, false, false},
    {"ssf", kSsf, true, false},
    {"ssf(targets=attn.q|norm1|patch_embed)", 2 * (12 + 3 * 24), true, false},
    {"fact(r=2,targets=attn.*,dropout=0.3)", 2 * 12 * 2 + 3 * 4 * 4, true},
    {"repadapter(r=4,dropout=0.3)", 3 * 2 * (12 * 4 + 4 + 2 * 12 + 12), true},
    {"repadapter(r=3,groups=1,scale=5,site=mlp)", 3 * (12 * 3 + 3 + 3 * 12 + 12), true},
    {"glora(r=2)", Glora(2), true},
    {"glora(r=2,a=vector,b=vector,c=vector,d=constant,e=constant)",
     3 * ((36 + 36 + 12 + 2) + (12 + 12 + 12 + 2) + (20 + 20 + 12 + 2) + (12 + 12 + 20 + 2)), true},
    {"glora(r=2,a=constant,b=constant,c=none,d=none,e=none)", 3 * 4 * 2, true},
    {"glora(r=2,a=none,b=lora,c=none,d=none,e=none,targets=attn.*)", 3 * (2 * 48 + 2 * 24), true},
    {"glora(a=none,b=none,c=lora_3,d=none,e=constant,targets=mlp.fc1)", 3 * (3 * 13 + 1), true},
    {"glora(r=2,a=none,b=lora_3,c=none,d=none,e=none,targets=mlp.fc1,blocks=0)+"
     "glora(r=2,a=vector,b=none,c=none,d=none,e=none,targets=mlp.fc2,blocks=0-1)",
     3 * (20 + 12) + 2 * 12, true},
    {"lora(r=2)+ssf", 3 * 2 * 2 * 24 + kSsf, true, false},
    {"ssf+lora(r=2)", 3 * 2 * 2 * 24 + kSsf, true, false},
    {"bitfit+ssf", 12 + 3 * (7 * 12 + 20) + 12 + kSsf, true, false},
    {"repadapter(r=4)+lora(r=2)", 3 * 2 * (12 * 4 + 4 + 2 * 12 + 12) + 3 * 2 * 2 * 24, true},
    {"lora(r=2)+repadapter(r=4)", 3 * 2 * (12 * 4 + 4 + 2 * 12 + 12) + 3 * 2 * 2 * 24, true},
    {"glora(r=2)+bitfit", Glora(2) + 12 + 3 * (7 * 12 + 20) + 12, true},
    {"fact(r=2,targets=attn.*)+ln", 2 * 12 * 2 + 3 * 4 * 4 + 3 * 4 * 12 + 24, true},
    {"vpt-deep(tokens=2)+lora(r=2)", 3 * 2 * 12 + 3 * 2 * 2 * 24, true, false, false},
    {"lora(r=2,dropout=0.3)+vpt-deep(tokens=2)", 3 * 2 * 12 + 3 * 2 * 2 * 24, true, false, false},
    {"unified(form=prefix,site=heads,composition=gated,r=2)", Keys(2), false, false, false},
    {"unified(form=lora,site=attn,composition=scaled,r=2,scale=0.5)", 3 * 2 * 2 * 24, true},
    {"unified(form=lora,site=ffn,r=2)", 3 * 2 * 24, true, true, false},
    {"unified(form=adapter,site=attn,r=2)", 3 * Bottle(2), true, true, false},
    {"unified(form=adapter,site=ffn,composition=scaled,act=tanh,r=2)", 3 * Bottle(2), true, true,
     false},
    {"unified(form=parallel,site=heads,r=2,act=gelu)", 3 * Bottle(2), true, true, false},
    {"unified(r=2,composition=scaled,scale=learned)", 3 * (Bottle(2) + 1), true, true, false},
    {"childtuning", 48 * 12 + 12 + 12 + 5 * 12 + 3 * (4 * (144 + 12) + 4 * 12 + 2 * 240 + 32) + 24,
     false},
    {"noisytune", 0, false},
    {"noisytune(lambda=0.5)+lora(r=2)", 3 * 2 * 2 * 24, true},
    {"nf4", 0, true, false},
    {"nf4(block=32,double=false)+lora(r=2)", 3 * 2 * 2 * 24, true, false},
    {"calibration", 0, true},
    {"lora(r=2)+calibration", 3 * 2 * 2 * 24, true},
    {"calibration-layer", 5 * 6, true},
    {"bitfit+calibration-layer", 12 + 3 * (7 * 12 + 20) + 12 + 5 * 6, true},
    {"lora(r=2)+calibration-layer+calibration", 3 * 2 * 2 * 24 + 5 * 6, true},
    {"fact(r=2)", kTexts, true},
    {"fact(r=3,form=tk,scale=10,dropout=0.3)", kTexts, true},
    {"ptuning2(tokens=3,shift=true)", kTexts, true, false, false},
    {"prompt(tokens=2,pool=first)", kTexts, true, false, false},
    {"prompt(tokens=3,init=vocab)", kTexts, true, false, false},
    {"prompt(tokens=3,init=text,text=a word,ids=7|5)", kTexts, true, false, false},
    {"bbt(tokens=2,d=5)", kTexts, true, false, false},
    {"bbt(tokens=2,d=5,mode=cat)", kTexts, true, false, false},
    {"bbt(tokens=2,d=0)", kTexts, true, false, false},
    {"houlsby(r=2)+lora(r=2)+adaptformer(r=2)", 3 * 3 * Bottle(2) + 3 * 2 * 2 * 24, true, false,
     false},
};

}  // namespace graft
