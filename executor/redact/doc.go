// Package redact takes secrets out of a job's log as it streams, and finds
// them in files.
//
// # What it promises
//
// A value that it knows leaves no Redactor: not as it is, and not in the forms
// listed below, however its bytes are cut into writes, and however slowly they
// come. In its place stands [cleanroom: NAME]. Where no form is, what is
// written comes out to the byte: invalid UTF-8, NULs, carriage returns, escape
// sequences. Nothing is held back but what may be the beginning of a form, as
// long as it may be one; what stands before it is let out by the same Write.
// No timer lets anything out. Memory is bounded by the longest form (cut to
// 1 KiB) and the noise that may be in it; time grows with the text alone,
// whatever is in it and however many values there are. No value is in an
// error, and none is printed by any verb of fmt.
//
// # What is found
//
// For each value: itself; base64, standard and URL-safe, alone or anywhere in
// a longer text; base64 of base64; hex; URL-encoded as a dozen encoders do it;
// strings of JSON, Go, Python and shells; escaped for HTML and XML; reversed;
// UTF-16; of a value of several lines each line that is long enough.
//
// All of that is compared by its dense part: bytes up to the space and DEL do
// not count, neither in a form nor in the log, and every text is read a second
// time with its ANSI escape sequences left out. So a value may be coloured,
// wrapped, indented, spelled with blanks, have CRLF for its line ends or none
// at all; base64 may be in lines of any length, hex in groups. (The log is
// also read with the sequences: a job could open one that swallows the first
// letters of a value.) The price is that "change me" is taken for "changeme".
//
// Two limits make that bearable. Noise of more than 1 KiB parts a match, or a
// job could make us hold back blanks for ever. And a match whose first four
// bytes are parted by a line end is hidden only from there on: most lines end
// with a letter that some form begins with, and were that held back with its
// line end until the next line, no line would appear as it is printed. A value
// printed with one letter per line shows its first three.
//
// # What is not found
//
//   - Encodings not listed: encryption, compression, base32, decimal, a job's
//     own. Forms of forms, but for base64 of base64 and JSON in JSON.
//   - Forms with text between their parts: a hex dump with addresses over more
//     than one line, a value that is printed in two with words between, or
//     whose halves another stream parts. A part alone of a value (but see Close).
//   - An escape sequence that swallows a value's first letters and another one
//     inside of the same value. Cursor movements that compose it on a screen.
//   - Half a character: base64 in a longer text keeps the one or two letters at
//     its ends that its neighbours have a share in, at most four bits of each.
//   - Changed case, but for hex. Parts that look alike in another script.
//   - Of a value of more than 4 KiB, a file, the escaped and reversed forms.
//   - A line of less than eight bytes that stands alone, and PEM's borders.
//
// # How
//
// squeeze copies a write's dense part. lens finds the forms in it: an automaton
// after Aho and Corasick is the truth, since after each byte it knows the
// longest beginning of a form that the text ends with, and that is what must
// be held. But it is slow, a chain of loads for each byte, and nearly always
// at its root. So it sleeps: a filter, which looks at one place in five or
// more, says where the next form may begin, and only there the automaton wakes
// and runs, until less than eight bytes of any form remain. What the filter
// looked over begins no form, so the automaton is, when it wakes and at the end
// of each write, just where it would be had it read every byte. It is made
// when it first wakes: most stages print no eight bytes of a form, and they
// pay for the filter alone.
//
// scan joins the two views of a text: matches that overlap become one, named
// by the first (of those, by the longest). The name of a match is known when
// nothing that may still become a match begins before it; then it is replaced,
// and what a later match adds to its end is hidden without a second name. So
// the rest of one value never stands behind the replacement of another.
package redact
