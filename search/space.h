// Search spaces: a METHOD whose option values hold choices in braces,
//
//   lora(r={0|2|4|8},targets=attn.*)+adaptformer(r={0|4|8})
//
// decided for each place of each term (MethodRecord::sites): here for every layer of attention and
// for every block. Choices of `blocks` are the exception: they are decided once for the term and
// say where the others are. A choice 0 of `r` or `tokens` leaves a place out. Terms and options
// without braces are the same for all candidates.
//
// A candidate has a choice for each gene, and is written as a METHOD in which places of equal
// options share a term.
#pragma once
#include <map>
#include <optional>

#include "models/model.h"
#include "peft/method.h"
#include "search/evolution.h"

namespace graft {

struct SpaceOption {
  std::string name;
  std::vector<std::string> choices;
};
struct SpaceTerm {
  MethodTerm fixed;                   // the options without braces
  std::vector<SpaceOption> options;   // decided for each place, in the order of their names
  std::optional<SpaceOption> blocks;  // decided once
};
using Space = std::vector<SpaceTerm>;

// Throws Error (kUsage) for a text that is no METHOD or has no braces, and for braces that are not
// closed, hold fewer than two choices, or hold the same one twice.
Space ParseSpace(std::string_view text);

// Whether this choice of an option leaves a place out.
bool LeavesOut(const std::string& option, const std::string& choice);

// A METHOD of the space that has branches wherever candidates may have some: it stands for what all
// candidates have in common, such as the default learning rate.
Method SampleOf(const Space& space);

// Writes out the space of that name for a model of so many blocks, with choices for these ranks (""
// means its own); any other text stays as it is. Throws Error (kUsage) for ranks beside a text, or
// that are no numbers.
//   glora  the choices of Chavan et al. 2023; --ranks 8,4 gives lora_8 and lora_4
//   noah   those of Zhang et al. 2022: ranks, widths and numbers of prompts 1, 5, 10
std::string WrittenOut(const std::string& space, const std::string& ranks, int64_t depth);
// Whether WrittenOut needs the depth for this space.
inline bool WantsDepth(const std::string& space) { return space == "noah"; }

// A gene holds the number of a choice.

struct Gene {
  size_t term = 0;
  int64_t place = -1;  // of the term; -1: the term's own, `blocks`
  size_t option = 0;   // of SpaceTerm::options
  int choices = 0;
};

// A space applied to a model.
class BoundSpace {
 public:
  // Throws Error (kUsage) for terms that find no place in the model, choices that a method refuses,
  // terms with choices that train the model's own parameters, and methods whose size is not the sum
  // over their places.
  BoundSpace(Space space, const ModelConfig& config, const ParamStore& params);

  const Space& space() const { return space_; }
  const std::vector<Gene>& genes() const { return genes_; }
  const std::vector<MethodSite>& places(size_t term) const { return terms_[term].places; }
  // Which of the term's places a choice of its own gene (`blocks`) has.
  const std::vector<bool>& Active(size_t term, int choice) const {
    return terms_[term].active.at(choice);
  }
  double log10_candidates() const { return log10_; }

  // Equal genes for equal candidates: whatever else a left-out place has chosen becomes 0.
  Genes Canonical(Genes genes) const;
  Method MethodOf(const Genes& genes) const;
  // How many numbers of the candidate train, without the head.
  int64_t Parameters(const Genes& genes) const;
  int64_t SmallestParameters() const;
  int64_t ParametersAt(const Genes& genes, size_t term, size_t place) const;
  // The choices at a place, such as "r=4 act=relu"; "-" where it is left out.
  std::string ChoiceText(const Genes& genes, size_t term, size_t place) const;

  // Methods that together have all parameters that any candidate has.
  std::vector<Method> Variants() const;
  // Shapes of what all candidates share, by name: each parameter of a method has the rows and
  // columns of the largest choice.
  const std::map<std::string, Extents>& storage() const { return storage_; }

 private:
  struct Term {
    std::vector<MethodSite> places;
    std::vector<size_t> first;              // by place: its first gene
    std::optional<size_t> own;              // the gene of `blocks`
    std::vector<std::vector<bool>> active;  // by choice of it, by place
  };
  using Values = std::vector<std::string>;  // of the options of a place

  void FindPlaces(size_t term);
  void AddGenes(size_t term);
  int64_t TrainedBy(const Method& method, const ParamStore& params) const;
  void CheckTrainsItsOwn(const ParamStore& params) const;
  void FindStorage(const ParamStore& params);
  void CheckSizes(const ParamStore& params);
  // Whether one option of the term lists its places, as `tokens` of vpt-deep does.
  bool Listed(size_t term) const;
  std::string ListOf(const std::map<std::string, std::string>& by_place) const;
  std::optional<Values> ValuesOf(const Genes& genes, size_t term, size_t place) const;
  bool IsActive(const Genes& genes, size_t term, size_t place) const;
  MethodTerm TermAt(size_t term, const std::string& option, const std::string& value,
                    const Values& values) const;
  int64_t Size(size_t term, size_t place, const Values& values) const;
  int64_t SmallestAt(size_t term, size_t place) const;

  Space space_;
  const ModelConfig config_;
  mutable Graph plain_;
  mutable ParamStore none_;
  std::vector<Term> terms_;
  std::vector<Gene> genes_;
  double log10_ = 0;
  int64_t fixed_size_ = 0;  // of terms that have no genes
  std::map<std::string, Extents> storage_;
  mutable std::map<std::pair<std::pair<size_t, size_t>, Values>, int64_t> sizes_;
};

}  // namespace graft
