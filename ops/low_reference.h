// What numbers become in low precision, for the references of its operators: in doubles, one by
// one.
#pragma once
#include <cstdint>
#include <vector>

namespace graft {

// The numbers x[0], x[stride], ... x[(count - 1) stride].
struct Line64 {
  int64_t count, stride;
  double At(const double* x, int64_t i) const { return x[i * stride]; }
};

void RoundToBf16(std::vector<double>& x);
void RoundToBf16(const double* x, const Line64& line, double* out);

// The results of byte_rows for one row, and the numbers that such cells stand for.
void ByteCells(const double* x, int64_t k, double* cells, double* range);
void NumbersOfCells(const double* cells, int64_t k, const double* range, double* out);

// A row of a, transformed (hadamard.h) and then rounded to bytes by its own range.
void RoundRow(const double* x, const Line64& line, double* out);
// The same by calibrated factors [2 count], the first half of rows and the second of
// columns. What is not finite makes the row NaN.
void RoundStaticRow(const double* x, const Line64& line, const double* factors, int64_t zero,
                    double* out);
// A column of b, to signed bytes; `factors` is that of RoundStaticRow, or null, and then the column
// is transformed like the rows.
void RoundColumn(const double* w, const Line64& line, const double* factors, double* out);

}  // namespace graft
