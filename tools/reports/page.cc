#include "tools/reports/page.h"

#include <fmt/format.h>

namespace graft {

extern const char kReportCss[], kReportJs[], kChartJs[], kChartJsLicence[];

namespace {

// JSON inside of <script>: no text of it may end the element or begin a comment.
std::string ScriptJson(const nlohmann::json& json) {
  std::string text;
  for (const char c : json.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace))
    text += c == '<' ? std::string("\\u003c") : std::string(1, c);
  return text;
}

}  // namespace

std::string EscapeHtml(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if (static_cast<unsigned char>(c) >= 32 || c == '\n' || c == '\t') out += c;
    }
  }
  return out;
}

HtmlCell NumberCell(double value, const std::string& text) {
  return {std::isnan(value) ? "-" : text, value};
}

void Page::Heading(const std::string& text, int level) {
  body_ += fmt::format("<h{0}>{1}</h{0}>\n", level, EscapeHtml(text));
}

void Page::Text(const std::string& text, const char* css_class) {
  body_ += fmt::format("<p{}>{}</p>\n", *css_class ? fmt::format(" class=\"{}\"", css_class) : "",
                       EscapeHtml(text));
}

void Page::Facts(const std::vector<std::pair<std::string, std::string>>& facts) {
  body_ += "<dl>\n";
  for (const auto& [name, value] : facts)
    if (!value.empty())
      body_ += fmt::format("<dt>{}</dt><dd>{}</dd>\n", EscapeHtml(name), EscapeHtml(value));
  body_ += "</dl>\n";
}

void Page::Table(const HtmlTable& table) {
  const auto number = [&](size_t i) {
    return i < table.numbers.size() && table.numbers[i] ? " class=\"number\"" : "";
  };
  body_ += "<div class=\"scroll\"><table>\n<thead><tr>";
  for (size_t i = 0; i < table.titles.size(); ++i)
    body_ += fmt::format("<th data-sort=\"\"{}>{}</th>", number(i), EscapeHtml(table.titles[i]));
  body_ += "</tr></thead>\n<tbody>\n";
  for (const std::vector<HtmlCell>& row : table.rows) {
    body_ += "<tr>";
    for (size_t i = 0; i < row.size(); ++i) {
      const HtmlCell& cell = row[i];
      std::string classes = i < table.numbers.size() && table.numbers[i] ? "number" : "";
      if (cell.best) classes += classes.empty() ? "best" : " best";
      if (cell.bad) classes += classes.empty() ? "bad" : " bad";
      body_ += "<td";
      if (!classes.empty()) body_ += fmt::format(" class=\"{}\"", classes);
      if (!std::isnan(cell.value))
        body_ += fmt::format(" data-value=\"{}\"", nlohmann::json(cell.value).dump());
      body_ += fmt::format(">{}</td>", EscapeHtml(cell.text));
    }
    body_ += "</tr>\n";
  }
  body_ += "</tbody></table></div>\n";
}

void Page::Chart(const nlohmann::json& config, bool small) {
  if (!HasCharts()) return;
  const int id = ++charts_;
  body_ += fmt::format(
      "<div class=\"chart{}\"><canvas id=\"chart{}\"></canvas></div>\n"
      "<script type=\"application/json\" data-chart=\"chart{}\">{}</script>\n",
      small ? " small" : "", id, id, ScriptJson(config));
}

std::string Page::Html() const {
  std::string html = fmt::format(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n"
      "<link rel=\"icon\" href=\"data:,\">\n<title>{}</title>\n<style>\n",
      EscapeHtml(title_));
  html += kReportCss;
  html += fmt::format("</style>\n</head>\n<body>\n<h1>{}</h1>\n", EscapeHtml(title_));
  html += body_;
  html += "<footer>Made by graft. Tables sort by a click on a heading.";
  if (charts_ > 0) html += fmt::format(" Charts: {}.", kChartJsLicence);
  html += "</footer>\n";
  if (charts_ > 0) html += fmt::format("<script>\n{}\n</script>\n", kChartJs);
  html += fmt::format("<script>\n{}</script>\n</body>\n</html>\n", kReportJs);
  return html;
}

bool HasCharts() { return kChartJs[0] != 0; }

}  // namespace graft
