// Eigen's templates are weak symbols: in a program that itself uses Eigen, compiled with other
// options, the linker would keep one copy for both. So ours are in a namespace of another name.
#define Eigen graft_eigen
#define EIGEN_MPL2_ONLY
// Eigen would spread products over OpenMP's threads.
#define EIGEN_DONT_PARALLELIZE
#include "train/symmetric_eigen.h"

#include <Eigen/Eigenvalues>

#include "runtime/error.h"

namespace graft {
namespace {

using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Eigen sums products in blocks that it fits to the caches it finds; they are fixed here, so that
// the sums are the same on any machine.
void FixBlocks() {
  [[maybe_unused]] static const bool once = [] {
    Eigen::setCpuCacheSizes(32 << 10, 256 << 10, 2 << 20);
    return true;
  }();
}

}  // namespace

bool SymmetricEigen(int64_t n, std::span<const double> a, std::span<double> w,
                    std::span<double> v) {
  const size_t side = static_cast<size_t>(n);
  GRAFT_CHECK(n >= 1 && a.size() == side * side && w.size() == side && v.size() == a.size());
  FixBlocks();
  // The solver copies the matrix into memory of its own, whose alignment, on which the order of
  // sums depends, is always the same.
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(
      Eigen::Map<const Rows>(a.data(), n, n));
  if (solver.info() != Eigen::Success) return false;
  Eigen::Map<Eigen::VectorXd>(w.data(), n) = solver.eigenvalues();
  Eigen::Map<Rows>(v.data(), n, n) = solver.eigenvectors();
  return true;
}

}  // namespace graft
