#include "tools/reports/page.h"

#include <fmt/format.h>

#include <algorithm>

#include "tools/lib/report.h"

namespace graft {

extern const char kReportCss[], kReportJs[], kChartJs[], kChartJsLicence[];

namespace {

std::string Cell(const HtmlCell& cell, bool number, bool title) {
  std::string classes, html = title ? "<th" : "<td";
  for (const auto& [is, name] :
       {std::pair(number, "number"), {cell.best, "best"}, {cell.bad, "bad"}, {cell.wraps, "wraps"}})
    if (is) classes += (classes.empty() ? "" : " ") + std::string(name);
  if (!classes.empty()) html += fmt::format(" class=\"{}\"", classes);
  if (!std::isnan(cell.value))
    html += fmt::format(" data-value=\"{}\"", nlohmann::json(cell.value).dump());
  if (cell.shade != 0)
    html += fmt::format(" style=\"background:rgb({} / {:.2f})\"",
                        cell.shade > 0 ? "31 111 235" : "217 72 40",
                        0.08 + 0.5 * std::min(1.0, std::abs(cell.shade)));
  return html + fmt::format(">{}</{}>", EscapeHtml(cell.text), title ? "th" : "td");
}

// JSON for the inside of <script>: none of its text may end the element or begin a comment.
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

HtmlCell ShareCell(double mean, double spread, bool marked) {
  std::string text = InPercent(mean);
  if (!std::isnan(spread)) text += fmt::format(" ± {:.1f}", 100 * spread);
  return NumberCell(mean, text + (marked ? "*" : ""));
}

HtmlCell CountCell(int64_t count) { return {Grouped(count), static_cast<double>(count)}; }

std::string DataUri(const std::string& type, std::span<const std::byte> bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string uri = fmt::format("data:{};base64,", type);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t count = std::min<size_t>(3, bytes.size() - i);
    uint32_t bits = 0;
    for (size_t k = 0; k < 3; ++k)
      bits = bits << 8 | (k < count ? static_cast<uint32_t>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) uri += k <= count ? kDigits[bits >> (18 - 6 * k) & 63] : '=';
  }
  return uri;
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
  body_ += table.matrix ? "<div class=\"scroll\"><table class=\"matrix\">\n<thead><tr>"
                        : "<div class=\"scroll\"><table>\n<thead><tr>";
  for (size_t i = 0; i < table.titles.size(); ++i) {
    const std::string title = EscapeHtml(table.titles[i]);
    body_ += table.matrix ? fmt::format("<th><span>{}</span></th>", title)
                          : fmt::format("<th data-sort=\"\"{}>{}</th>", number(i), title);
  }
  body_ += "</tr></thead>\n<tbody>\n";
  for (const std::vector<HtmlCell>& row : table.rows) {
    body_ += "<tr>";
    for (size_t i = 0; i < row.size(); ++i)
      body_ += Cell(row[i], i < table.numbers.size() && table.numbers[i], table.matrix && i == 0);
    body_ += "</tr>\n";
  }
  body_ += "</tbody></table></div>\n";
}

void Page::Quote(const std::string& text) {
  body_ += fmt::format("<div class=\"scroll\"><pre>{}</pre></div>\n", EscapeHtml(text));
}

// A picture that knows no dark style stands on white.
void Page::Picture(const std::string& svg, const std::string& description) {
  const bool dark = svg.find("prefers-color-scheme") != svg.npos;
  body_ += fmt::format(
      "<div class=\"picture{}\"><img src=\"{}\" alt=\"{}\"></div>\n", dark ? "" : " paper",
      DataUri("image/svg+xml", std::as_bytes(std::span(svg))), EscapeHtml(description));
}

void Page::Gallery(const std::vector<HtmlPicture>& pictures) {
  body_ += "<div class=\"gallery\">\n";
  for (const HtmlPicture& picture : pictures) {
    body_ += "<figure>";
    body_ += picture.uri.empty()
                 ? "<div class=\"missing\">not there</div>"
                 : fmt::format("<img src=\"{}\" alt=\"\" loading=\"lazy\">", picture.uri);
    body_ += "<figcaption>";
    for (const std::string& line : picture.lines)
      body_ += fmt::format("<div>{}</div>", EscapeHtml(line));
    body_ += "</figcaption></figure>\n";
  }
  body_ += "</div>\n";
}

void Page::BeginDetails(const std::string& title) {
  body_ += fmt::format("<details><summary>{}</summary>\n", EscapeHtml(title));
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
