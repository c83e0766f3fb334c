// Shows searches as sections of a page.
#pragma once
#include "search/search_run.h"
#include "tools/reports/page.h"

namespace graft {

// What the files of a search say, whether it has ended or not.
struct SearchData {
  std::string directory;
  SearchConfig search;
  std::string model, data, val_split;
  std::vector<Evaluated> candidates;   // in the order of measuring
  std::vector<nlohmann::json> epochs;  // of the supernet
  size_t damaged = 0;                  // lines that were left out
  std::string method;                  // of the best; "" while the search has not ended
  std::string choices_text, choices_svg;
  double supernet_seconds = NAN, candidate_seconds = NAN;
};
// Whether a directory is that of a search.
bool IsSearch(const std::string& directory);
// Throws Error for a search whose config.json or search.json cannot be read.
SearchData ReadSearch(const std::string& directory);

// Shows searches of one space, model and data, such as an evolution and its random baseline, in one
// table and one chart: the accuracy of every candidate over the numbers that train, and the best so
// far.
void CompareSearches(const std::vector<SearchData>& searches, Page* page);

// Shows one search: its best candidate and the choices at each place, generations, all candidates,
// the supernet; and the charts, unless another search is of its space. Returns what could not be
// shown.
std::vector<std::string> AddSearch(const SearchData& search,
                                   const std::vector<SearchData>& searches, Page* page);

}  // namespace graft
