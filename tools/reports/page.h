// One HTML page that needs nothing else: styles, scripts, charts and their data are in it, and
// every number of a chart is in a table, too, for readers without scripts.
#pragma once
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace graft {

// Text for elements and quoted attributes.
std::string EscapeHtml(const std::string& text);

// A cell of a table. With a value it is a number: sorted by it, and in the page with all its digits
// as data-value.
struct HtmlCell {
  std::string text;
  double value = NAN;
  bool best = false, bad = false;
};
HtmlCell NumberCell(double value, const std::string& text);  // "-" of a NaN

struct HtmlTable {
  std::vector<std::string> titles;
  std::vector<bool> numbers;  // by column: to the right
  std::vector<std::vector<HtmlCell>> rows;
};

class Page {
 public:
  explicit Page(std::string title) : title_(std::move(title)) {}
  void Heading(const std::string& text, int level = 2);
  void Text(const std::string& text, const char* css_class = "");
  void Facts(const std::vector<std::pair<std::string, std::string>>& facts);
  void Table(const HtmlTable& table);
  // `config` is Chart.js's: type, data, options. Left out where the page has no Chart.js.
  void Chart(const nlohmann::json& config, bool small = false);
  // Charts between these stand side by side.
  void BeginGrid() { body_ += "<div class=\"grid\">\n"; }
  void EndGrid() { body_ += "</div>\n"; }

  std::string Html() const;

 private:
  std::string title_, body_;
  int charts_ = 0;
};

// Whether this build has Chart.js to put into pages.
bool HasCharts();

}  // namespace graft
