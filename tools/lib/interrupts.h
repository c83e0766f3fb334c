// What Ctrl-C does.
#pragma once

namespace graft {

// Lets Ctrl-C and SIGTERM set a flag; a second one ends the process at once.
void CatchInterrupts();
bool Interrupted();

}  // namespace graft
