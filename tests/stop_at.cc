// Preloaded into a command under test, stops the process (SIGSTOP) as soon as the path
// GRAFT_TEST_STOP_AT is there, inside the call that made it, and once. What a test then finds,
// kills or changes does not depend on who gets the processor.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdarg>
#include <cstdlib>
#include <cstring>

namespace {

std::atomic<bool> stopped = false;

// Who makes the path: the command, not mpirun or a shell that starts it, and the first of several.
bool IsTheMaker() {
  const char* const rank = std::getenv("OMPI_COMM_WORLD_RANK");
  return std::strcmp(program_invocation_short_name, "graft") == 0 &&
         (!rank || std::strcmp(rank, "0") == 0);
}

int StopIfThere(int result) {
  const int error = errno;
  static const char* const path = IsTheMaker() ? std::getenv("GRAFT_TEST_STOP_AT") : nullptr;
  if (result >= 0 && path && access(path, F_OK) == 0 && !stopped.exchange(true)) raise(SIGSTOP);
  errno = error;
  return result;
}

template <class F>
F* Original(const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  static const auto original = Original<int(const char*, int, ...)>("open");
  return StopIfThere(original(path, flags, mode));
}

int openat(int directory, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  static const auto original = Original<int(int, const char*, int, ...)>("openat");
  return StopIfThere(original(directory, path, flags, mode));
}

int mkdir(const char* path, mode_t mode) {
  static const auto original = Original<int(const char*, mode_t)>("mkdir");
  return StopIfThere(original(path, mode));
}

int rename(const char* from, const char* to) {
  static const auto original = Original<int(const char*, const char*)>("rename");
  return StopIfThere(original(from, to));
}

int renameat(int from_directory, const char* from, int to_directory, const char* to) {
  static const auto original = Original<int(int, const char*, int, const char*)>("renameat");
  return StopIfThere(original(from_directory, from, to_directory, to));
}

int renameat2(int from_directory, const char* from, int to_directory, const char* to,
              unsigned flags) {
  static const auto original =
      Original<int(int, const char*, int, const char*, unsigned)>("renameat2");
  return StopIfThere(original(from_directory, from, to_directory, to, flags));
}

}  // extern "C"
