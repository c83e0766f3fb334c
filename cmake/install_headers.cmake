# Run by `cmake --install`: puts graft/graft.h and all that it includes of ours under
# INCLUDEDIR/graft, where #include "runtime/graph.h" becomes #include "graft/runtime/graph.h", so
# that no folder of a user's own, runtime/ or data/, gets in the way.
# Wants GRAFT_SOURCE, GRAFT_BINARY and GRAFT_INCLUDEDIR.
cmake_policy(VERSION 3.22)  # install scripts begin without one

set(staged "${GRAFT_BINARY}/installed_headers")
set(todo graft/graft.h)
set(seen)
while(todo)
  list(POP_FRONT todo header)
  list(APPEND seen ${header})
  file(READ "${GRAFT_SOURCE}/${header}" text)
  string(REGEX MATCHALL "#include \"[^\"]+\"" includes "${text}")
  foreach(include ${includes})
    string(REGEX REPLACE "#include \"(.*)\"" "\\1" name "${include}")
    if(NOT name IN_LIST seen AND NOT name IN_LIST todo)
      list(APPEND todo ${name})
    endif()
  endforeach()
  string(REPLACE "#include \"" "#include \"graft/" text "${text}")
  string(REPLACE "#include \"graft/graft/" "#include \"graft/" text "${text}")
  string(REGEX REPLACE "^graft/" "" place "${header}")
  # A header that is the same keeps its time, and a user's build what it has compiled.
  set(before)
  if(EXISTS "${staged}/${place}")
    file(READ "${staged}/${place}" before)
  endif()
  if(NOT before STREQUAL text)
    file(WRITE "${staged}/${place}" "${text}")
  endif()
  get_filename_component(folder "${place}" DIRECTORY)
  file(INSTALL "${staged}/${place}" DESTINATION "${GRAFT_INCLUDEDIR}/graft/${folder}")
endwhile()
