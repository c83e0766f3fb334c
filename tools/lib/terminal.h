// How wide the lines of people's terminals are.
#pragma once
#include <cstddef>
#include <string>

namespace graft {

// Columns of a text: its UTF-8 characters.
size_t ColumnsOf(const std::string& text);

// Columns of the terminal that a file descriptor leads to; 0 if it leads to none (a file, a pipe),
// where lines may be of any length. `usual` where a terminal does not tell.
size_t TerminalColumns(int descriptor, size_t usual = 80);

// The text in at most `columns`, with a "~" in the place of what is left out at its end, or at its
// beginning.
enum class CutAt { kEnd, kBegin };
std::string FitText(const std::string& text, size_t columns, CutAt at = CutAt::kEnd);

}  // namespace graft
