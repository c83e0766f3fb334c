#include "tools/lib/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

namespace graft {
namespace {

bool Continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

// Where the character of this number begins.
size_t At(const std::string& text, size_t character) {
  size_t at = 0;
  for (size_t seen = 0; at < text.size(); ++at)
    if (!Continues(text[at]) && seen++ == character) break;
  return at;
}

}  // namespace

size_t ColumnsOf(const std::string& text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !Continues(c); }));
}

size_t TerminalColumns(int descriptor, size_t usual) {
  if (isatty(descriptor) == 0) return 0;
  winsize size{};
  const bool told = ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return told ? size.ws_col : usual;
}

std::string FitText(const std::string& text, size_t columns, CutAt at) {
  const size_t width = ColumnsOf(text);
  if (width <= columns) return text;
  if (columns == 0) return "";
  if (at == CutAt::kEnd) return text.substr(0, At(text, columns - 1)) + "~";
  return "~" + text.substr(At(text, width - columns + 1));
}

}  // namespace graft
