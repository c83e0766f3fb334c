// The eigen-decomposition of a dense symmetric matrix. Eigen, which computes it, stays behind this
// header.
#pragma once
#include <cstdint>
#include <span>

namespace graft {

// A = V diag(w) V^T. `a` is [n,n] in rows, of which the lower triangle is read; `w` [n] gets the
// eigenvalues in ascending order, `v` [n,n] in rows gets an orthonormal eigenvector in every
// column. Returns false, with nothing written, if the iteration has not converged. Householder
// tridiagonalisation and implicit QL steps, some 9 n^3 operations, on the calling thread alone:
// equal matrices give equal bits, whatever the number of threads and the caches of the processor.
// REQUIRES: n >= 1, `a` is finite.
bool SymmetricEigen(int64_t n, std::span<const double> a, std::span<double> w, std::span<double> v);

}  // namespace graft
