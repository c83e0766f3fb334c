// One HTML page that needs nothing else: styles, scripts, charts and their data are in it. Every
// number of a chart is in a table, too, for readers without scripts.
#pragma once
#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace graft {

// Escapes text for elements and quoted attributes.
std::string EscapeHtml(const std::string& text);

// A file inside the page: "data:TYPE;base64,...".
std::string DataUri(const std::string& type, std::span<const std::byte> bytes);

// A cell of a table. One with a value is a number: the table sorts by it, and the page has all its
// digits as data-value.
struct HtmlCell {
  std::string text;
  double value = NAN;
  bool best = false, bad = false;
  bool wraps = false;  // a long text, in several lines
  double shade = 0;    // of the background, -1 (bad) to 1 (good)
};
HtmlCell NumberCell(double value, const std::string& text);  // "-" of a NaN
// A share in percent, such as "81.2" or "81.2 ± 0.4"; with a star if it is `marked`.
HtmlCell ShareCell(double mean, double spread = NAN, bool marked = false);
HtmlCell CountCell(int64_t count);  // "5,717,416"

struct HtmlTable {
  std::vector<std::string> titles;
  std::vector<bool> numbers;  // by column: to the right
  std::vector<std::vector<HtmlCell>> rows = {};
  // A matrix: its first column holds titles, too, the titles of the others stand upright, and
  // nothing sorts.
  bool matrix = false;
};

// An image with what is said of it, a line each.
struct HtmlPicture {
  std::string uri;  // DataUri, or "" of one that could not be read
  std::vector<std::string> lines;
};

class Page {
 public:
  explicit Page(std::string title) : title_(std::move(title)) {}
  void Heading(const std::string& text, int level = 2);
  void Text(const std::string& text, const char* css_class = "");
  void Facts(const std::vector<std::pair<std::string, std::string>>& facts);
  void Table(const HtmlTable& table);
  void Quote(const std::string& text);  // as it is, in letters of one width
  // Adds an SVG picture; nothing in it can run.
  void Picture(const std::string& svg, const std::string& description);
  void Gallery(const std::vector<HtmlPicture>& pictures);  // of thumbnails
  // Columns stand side by side where the page is wide enough.
  void BeginColumns() { body_ += "<div class=\"columns\"><div>\n"; }
  void NextColumn() { body_ += "</div><div>\n"; }
  void EndColumns() { body_ += "</div></div>\n"; }
  // What stands between these is shown after a click on the title.
  void BeginDetails(const std::string& title);
  void EndDetails() { body_ += "</details>\n"; }
  // Adds a chart, unless the page has no Chart.js. `config` is Chart.js's: type, data, options.
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
