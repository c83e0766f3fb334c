// The library: everything that a program needs to load a model, adapt it, merge it and use it.
//
//   models/checkpoint.h       LoadModel, AdaptClasses, SaveModel; models/{model,vit,bert}.h: graphs
//   peft/method.h             ParseMethod("lora(r=4)")
//   graft/method_graph.h      a model's graph with a method
//   autograd/train_step.h     one step: forward, backward, update
//   runtime/session.h         inference
//   graft/fuse.h              a method merged into the weights, with a proof
//   models/tokenizer.h        a text as the rows that a BERT reads
//   data/preprocess.h         an image file as the pixels that a vision transformer reads
//   runtime/io/safetensors.h  tensors of a ParamStore in a file
//
// docs/library.md has the rules of threads, errors and ownership.
#pragma once

#include "autograd/train_step.h"
#include "data/preprocess.h"
#include "graft/fuse.h"
#include "graft/method_graph.h"
#include "models/checkpoint.h"
#include "models/tokenizer.h"
#include "runtime/io/safetensors.h"
