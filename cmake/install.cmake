# cmake --install: the command, and the library as the target graft::graft of find_package(graft).
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)

# All folders but tools/ in one archive, from the objects that are there already.
set(objects)
foreach(part runtime ops autograd models peft data adapters train suites)
  list(APPEND objects $<TARGET_OBJECTS:graft_${part}>)
endforeach()
add_library(graft_installed STATIC ${objects})
add_library(graft::graft ALIAS graft_installed)
set_target_properties(graft_installed PROPERTIES
  OUTPUT_NAME graft EXPORT_NAME graft LINKER_LANGUAGE CXX)
target_compile_features(graft_installed PUBLIC cxx_std_20)
target_include_directories(graft_installed INTERFACE
  $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}> $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
# Public is what the headers include; the rest is linked only.
target_link_libraries(graft_installed
  PUBLIC fmt::fmt OpenMP::OpenMP_CXX Threads::Threads
  PRIVATE graft::dnnl graft::re2 graft::spng graft::webpdemux graft::webp hwy::hwy GIF::GIF
          JPEG::JPEG SQLite::SQLite3 TIFF::TIFF ZLIB::ZLIB)
if(GRAFT_SANITIZE)
  target_link_options(graft_installed INTERFACE -fsanitize=address,undefined)
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/graft)
install(TARGETS graft DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS graft_installed EXPORT graftTargets DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(EXPORT graftTargets NAMESPACE graft:: DESTINATION ${package_dir})
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/graftConfig.cmake.in graftConfig.cmake
  INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(graftConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/graftConfig.cmake ${CMAKE_BINARY_DIR}/graftConfigVersion.cmake
  DESTINATION ${package_dir})
install(CODE "
  set(GRAFT_SOURCE \"${CMAKE_SOURCE_DIR}\")
  set(GRAFT_BINARY \"${CMAKE_BINARY_DIR}\")
  set(GRAFT_INCLUDEDIR \"\${CMAKE_INSTALL_PREFIX}/${CMAKE_INSTALL_INCLUDEDIR}\")
  include(\"${CMAKE_CURRENT_LIST_DIR}/install_headers.cmake\")")

# The man page and completions, which the command makes of its own options.
set(shell_files)
foreach(file "graft.1;help;--man" "graft.bash;completions;bash" "_graft;completions;zsh"
             "graft.fish;completions;fish")
  list(POP_FRONT file name)
  add_custom_command(OUTPUT shell/${name}
    COMMAND ${CMAKE_COMMAND} -E make_directory shell
    COMMAND graft ${file} > shell/${name} DEPENDS graft VERBATIM)
  list(APPEND shell_files ${CMAKE_BINARY_DIR}/shell/${name})
endforeach()
add_custom_target(graft_shell_files ALL DEPENDS ${shell_files})
install(FILES ${CMAKE_BINARY_DIR}/shell/graft.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1 OPTIONAL)
install(FILES ${CMAKE_BINARY_DIR}/shell/graft.bash RENAME graft OPTIONAL
  DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES ${CMAKE_BINARY_DIR}/shell/_graft OPTIONAL
  DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
install(FILES ${CMAKE_BINARY_DIR}/shell/graft.fish OPTIONAL
  DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
