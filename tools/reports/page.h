// One HTML page that needs nothing else: styles, scripts, charts and their data are in it, and
// every number of a chart is in a table, too, for readers without scripts.
#pragma once
#include <cmath>
#include <cstddef>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

namespace graft {

// Text for elements and quoted attributes.
std::string EscapeHtml(const std::string& text);

// "data:TYPE;base64,...": a file in the page itself.
std::string DataUri(const std::string& type, std::span<const std::byte> bytes);

// A cell of a table. With a value it is a number: sorted by it, and in the page with all its digits
// as data-value.
struct HtmlCell {
  std::string text;
  double value = NAN;
  bool best = false, bad = false;
  bool wraps = false;  // a long text, in several lines
  double shade = 0;    // of the background, -1 (bad) to 1 (good)
};
HtmlCell NumberCell(double value, const std::string& text);  // "-" of a NaN
// A share in percent, "81.2" or "81.2 ± 0.4"; `marked` with a star.
HtmlCell ShareCell(double mean, double spread = NAN, bool marked = false);
HtmlCell CountCell(int64_t count);  // "5,717,416"

struct HtmlTable {
  std::vector<std::string> titles;
  std::vector<bool> numbers;  // by column: to the right
  std::vector<std::vector<HtmlCell>> rows = {};
  // The first column are titles, too; those of the others stand upright, and nothing sorts.
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
  // An SVG picture; nothing of it can run.
  void Picture(const std::string& svg, const std::string& description);
  void Gallery(const std::vector<HtmlPicture>& pictures);  // of thumbnails
  // Columns side by side, where the page is wide enough.
  void BeginColumns() { body_ += "<div class=\"columns\"><div>\n"; }
  void NextColumn() { body_ += "</div><div>\n"; }
  void EndColumns() { body_ += "</div></div>\n"; }
  // What stands between these is shown by a click on the title.
  void BeginDetails(const std::string& title);
  void EndDetails() { body_ += "</details>\n"; }
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
