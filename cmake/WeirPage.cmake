# Embeds viz/page/ into the library: writes OUT, a C source with each of FILES (a list with "|"
# between) as an array of bytes.   cmake -DOUT=F.c -DFILES="a.js|b.css" -P WeirPage.cmake
string(REPLACE "|" ";" FILES "${FILES}")
set(arrays "")
set(rows "")
set(count 0)
foreach(file ${FILES})
  get_filename_component(name ${file} NAME)
  file(READ ${file} hex HEX)
  string(LENGTH "${hex}" digits)
  math(EXPR bytes "${digits} / 2")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," hex "${hex}")
  # Thirty-two bytes a line.
  string(REGEX REPLACE "((0x[0-9a-f][0-9a-f],){32})" "\\1\n" hex "${hex}")
  string(APPEND arrays "static const unsigned char file${count}[] = {\n${hex}\n0};\n")
  string(APPEND rows "    {\"${name}\", file${count}, ${bytes}},\n")
  math(EXPR count "${count} + 1")
endforeach()
file(WRITE ${OUT} "/* Written by cmake/WeirPage.cmake from viz/page/. */
#include \"viz/html_internal.h\"

${arrays}
const wr__page_file wr__page_files[] = {
${rows}};
const size_t wr__page_file_count = ${count};
")
