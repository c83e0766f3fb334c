// CMA-ES, the evolution strategy with a covariance matrix adapted: a minimum of a function of n
// numbers that only its values are known of. Hansen, "The CMA Evolution Strategy: A Tutorial"
// (arXiv:1604.00772), with negative weights, in the form of the package `cmaes` of CyberAgent.
// A search ends when its caller stops; there are no tolerances.
//
//   CmaEs search(500, 1.0, 20, seed, "prompt");
//   for (int64_t g = 0; g < generations; ++g) {
//     const std::span<const double> x = search.Ask();  // [population, n]
//     search.Tell(losses of the rows of x);
//   }
//   use search.best
//
// Everything is in double and on the calling thread. What generation g draws for a candidate is a
// function of (seed, stream, g, candidate), so the state between two generations is all that a
// search needs to go on with the same bits.
#pragma once
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/params.h"

namespace graft {

// A covariance matrix of n x n is decomposed in every generation.
constexpr int64_t kCmaMaxDimension = 4096, kCmaMaxPopulation = 4096;
// Bounds of the step size, far outside of what a search needs: within them no square overflows.
constexpr double kCmaMinSigma = 1e-32, kCmaMaxSigma = 1e32;

// What depends on n and the population alone; the equations are those of the tutorial.
struct CmaConstants {
  int64_t mu = 0;               // parents: the better half
  double mu_eff = 0;            // (sum w)^2 / sum w^2 of the parents
  double c1 = 0, cmu = 0;       // learning rates of the rank-one and the rank-mu update
  double cs = 0, ds = 0;        // cumulation and damping of the step size
  double cc = 0;                // cumulation of the rank-one update
  double chi_n = 0;             // about E|N(0, I)|
  std::vector<double> weights;  // [population], the best first; the parents' sum to 1
  double weight_sum = 0;        // of all, the negative ones, too
};
// REQUIRES: n >= 1, population >= 2.
CmaConstants MakeCmaConstants(int64_t n, int64_t population);

struct CmaEs {
  // The mean starts at 0 and the covariance at I. Throws Error (usage) unless n is in
  // [1, kCmaMaxDimension], sigma in [kCmaMinSigma, kCmaMaxSigma] and the population in
  // [2, kCmaMaxPopulation].
  CmaEs(int64_t n, double sigma, int64_t population, uint64_t seed, std::string_view stream);

  // Candidates x = mean + sigma B D z, [population, n], valid until the next call of a member.
  // Asked twice in one generation, they are the same.
  std::span<const double> Ask();
  // The same with given draws z [population, n].
  std::span<const double> Ask(std::span<const double> z);

  // Ends the generation that Ask began; `losses` [population]. Of equal losses, the candidate that
  // comes first ranks better; a NaN ranks after everything else and is never the best. Throws
  // Error, without a change, for another number of losses; of kind kNonFinite, too, if all are NaN.
  // Throws Error of kind kNonFinite if mean or covariance leave the range of double, after which
  // the search is of no use.
  void Tell(std::span<const double> losses);

  // Sets eigenvectors, scales and repaired from the covariance; false if it is not finite or the
  // iteration does not converge. For those who set the covariance themselves.
  [[nodiscard]] bool Decompose();

  int64_t n, population;
  uint64_t key;  // of the stream of draws
  CmaConstants constants;

  // The state, which ToTensors saves. A start other than 0 may be put into `mean`.
  int64_t generation = 0;  // told so far
  double sigma;
  std::vector<double> mean;        // [n]
  std::vector<double> path_sigma;  // [n], ps
  std::vector<double> path_c;      // [n], pc
  std::vector<double> covariance;  // [n,n], symmetric; the updates may leave it indefinite
  struct Best {
    double loss = std::numeric_limits<double>::infinity();
    int64_t generation = -1;  // it was found in; -1: nothing has been
    std::vector<double> x;    // [n]; zeros before
  } best;                     // of all candidates so far, the first of equal ones

  // B D^2 B^T = covariance, a function of it. An eigenvalue that is not positive is taken for 1e-8,
  // and `repaired` is set.
  std::vector<double> eigenvectors;  // [n,n] in rows: column j is an eigenvector, B
  std::vector<double> scales;        // [n], D
  bool repaired = false;

  std::vector<double> candidates;  // [population,n] of the last Ask
  bool asked = false;              // and not told
};

// The state as entries ROOT.scalars, .mean, .path_sigma, .path_c, .covariance (its lower
// triangle) and .best, which are replaced; returns their names. A store holds f32: the last
// dimension of 3 is a double's 64 bits as whole numbers of 24, 24 and 16 bits, the low ones first.
std::vector<std::string> ToTensors(const CmaEs& search, const std::string& root, ParamStore* store);
// Puts the state back into a search of the same n, population, seed and stream, which then goes on
// with the same bits. Throws Error, without a change, for entries that are missing, of a search
// with others of these, or no state at all.
void FromTensors(const ParamStore& store, const std::string& root, CmaEs* search);

}  // namespace graft
