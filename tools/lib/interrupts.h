// Ctrl-C.
#pragma once

namespace graft {

// Ctrl-C and SIGTERM set a flag; a second one ends the process at once.
void CatchInterrupts();
bool Interrupted();

}  // namespace graft
