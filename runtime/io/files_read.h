// What a command has read, so that it overwrites none of it: every reader of runtime/io says so
// here, every writer asks. Programs that use the library decide for themselves: nothing is recorded
// before ProtectWhatIsRead.
#pragma once
#include <string>

namespace graft {

// From now on, in this process.
void ProtectWhatIsRead();

// That this file is read, or everything in this directory. Any thread may call it.
void RecordRead(const std::string& path);
void RecordRead(int fd);
// That this process has made this file or directory: it may replace the file, and what is in the
// directory, also after it has read them.
void RecordWritten(int fd);

// From now on, in this process, no file is replaced that exists and that it has not made; or again.
void ProtectWhatExists(bool protect);
// Error if `out` is such a file.
void RefuseReplacing(const std::string& out);
// Both.
void CheckOutput(const std::string& out);

// Error of kind usage if `out` is a file or directory that was read, by whatever name (symbolic and
// hard links too), or a file in such a directory. Names under which nothing is yet are free.
void RefuseOverwriting(const std::string& out);

}  // namespace graft
