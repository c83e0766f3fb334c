// Keeps a command from overwriting what it has read: every reader of runtime/io reports here, and
// every writer asks. Programs that use the library decide for themselves: nothing is recorded
// before ProtectWhatIsRead.
#pragma once
#include <string>

namespace graft {

// Begins the protection, for the rest of this process.
void ProtectWhatIsRead();

// Records that this file, or everything in this directory, is read. Any thread may call it.
void RecordRead(const std::string& path);
void RecordRead(int fd);
// Records that this process has made the file or directory. It may then replace the file, or what
// is in the directory, even after reading it.
void RecordWritten(int fd);

// With `protect`, writers refuse from now on to replace a file that exists and was not made by this
// process; without, allows it again.
void ProtectWhatExists(bool protect);
// Throws Error if `out` is such a file.
void RefuseReplacing(const std::string& out);
// Does what RefuseReplacing and RefuseOverwriting do.
void CheckOutput(const std::string& out);

// Throws Error of kind kUsage if `out` is a file or directory that was read, by whatever name
// (symbolic and hard links, too), or a file in such a directory. A name that does not exist yet is
// free.
void RefuseOverwriting(const std::string& out);

}  // namespace graft
