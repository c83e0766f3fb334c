// Processes that work on one thing together, started by mpirun or srun: data-parallel training.
// Every process runs the same code with the same arguments. Expensive work is divided and its
// results are shared, in an order that does not depend on the number of processes. What they
// exchange goes through a Transport. MPI's is a library of its own, libgraft_mpi.so, which is
// loaded where a launcher has started several processes: the program itself needs no MPI.
// A process that fails tells the others when they next Meet, and all of them throw the same Error.
// So each exchange comes after a Meet, and nothing between the two may throw.
#pragma once
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include "runtime/threads.h"

namespace graft {

// Point-to-point and collective messages among `size` processes. All processes make their calls in
// the same order, from one thread each. A message that cannot be delivered ends the process.
class Transport {
 public:
  virtual ~Transport() = default;  // after which no process may be waited for
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual void Send(std::span<const std::byte> bytes, int to) = 0;
  virtual void Receive(std::span<std::byte> bytes, int from) = 0;
  virtual void Broadcast(std::span<std::byte> bytes, int from) = 0;
  virtual int64_t Largest(int64_t value) = 0;
};

class ProcessGroup {
 public:
  explicit ProcessGroup(std::unique_ptr<Transport> transport) : transport_(std::move(transport)) {}

  int rank() const { return transport_->rank(); }
  int size() const { return transport_->size(); }
  bool IsFirst() const { return rank() == 0; }

  // Waits for all processes. If one of them has failed, all throw the same Error. Returns whether
  // any of them wants to stop.
  bool Meet(bool wants_stop = false);
  // Calls f and then Meet: what f throws in one process, all of them throw.
  void Together(const std::function<void()>& f);

  // The part of `items` that this process, or another one, has. Parts are consecutive; the last
  // ones are empty if there are fewer items than processes.
  Piece Mine(int64_t items) const { return PieceOf(items, rank()); }
  Piece PieceOf(int64_t items, int rank) const;

  // Gives the bytes of the process `from` to all others.
  void Broadcast(std::span<std::byte> bytes, int from) { transport_->Broadcast(bytes, from); }
  // Gives every process the pieces of the others: each has filled its own piece of `values`, which
  // are `items` rows of equal size.
  template <class T>
  void ShareRows(std::span<T> values, int64_t items) {
    static_assert(std::is_trivially_copyable_v<T>);
    const size_t row = items > 0 ? values.size() / static_cast<size_t>(items) : 0;
    for (int r = 0; r < size(); ++r) {
      const Piece piece = PieceOf(items, r);
      Broadcast(std::as_writable_bytes(values.subspan(static_cast<size_t>(piece.begin) * row,
                                                      static_cast<size_t>(piece.size) * row)),
                r);
    }
  }
  // Meets, then returns the texts of all processes, by rank.
  std::vector<std::string> Gather(const std::string& text);

  // Sums in a fixed order. terms[i] is the addend i of the sum, all of one length, of which this
  // process has computed those of Mine(terms.size()). On return terms[0] is ((terms[0] + terms[1])
  // + terms[2]) + ... in every process: the same bits as if one had computed them all. The other
  // terms are overwritten.
  void SumInOrder(std::span<const std::span<float>> terms);

 private:
  [[noreturn]] void ThrowShared(int64_t most, const std::string& mine);
  std::string BroadcastText(std::string text, int from);
  std::unique_ptr<Transport> transport_;
  bool ended_ = false;  // all know of an error
};

// What a launcher's environment says of this process.
struct LaunchedProcess {
  int rank = 0, size = 1;
};
LaunchedProcess ReadLaunch();
// Whether mpirun has started several of this process itself, and so all with the same words: a
// script between them may give each its own. Other launchers do not say, and it is false.
bool LaunchedAlike();
// This process, and what it starts, is alone from here on.
void ForgetLaunch();

// The group of the processes that were started with this one; null for a process that runs alone.
// Throws Error where a launcher has started several and there is no library to reach them by: each
// would otherwise believe that it is alone.
std::unique_ptr<ProcessGroup> OpenProcessGroup();

// How many threads this process should use if others of the group share its cores on the same
// machine: those that it may use, divided among the processes with the same cores. At least 1.
int ThreadsInGroup(ProcessGroup& group);

// The version and entry point of libgraft_mpi.so. The version changes with Transport.
inline constexpr int kTransportVersion = 1;
inline constexpr const char* kOpenTransport = "graft_open_transport";
using OpenTransportFunction = Transport*(int version);  // null for another version

}  // namespace graft
