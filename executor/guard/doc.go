// Package guard looks for a job's secrets in files that are about to be
// stored: artifacts, reports, caches, also inside of archives.
//
// # What it promises
//
// Every file is searched as it lies, from its first byte to its last, for
// every form that package redact finds. Where something packed begins in it,
// at its beginning or anywhere else, that is unpacked and searched in the same
// way, down to eight layers: gzip, bzip2, xz, zstd, deflated members of zips
// (and so wheels and jars). What is stored as it is, in tars, in zips, in the
// one-file cache of older pips, needs no unpacking: there only the names of
// members and where they lie are read, to say where a secret is. So a tar whose
// headers lie can hide nothing, but make us name the wrong member.
//
// What something is, its bytes say, never its name.
//
// All that is read is hostile. Memory is bounded by constants (see bounds.go),
// time by the file's size and by the context; no error and no finding shows a
// value. A Finding names paths that the job's author chose: a path can be a
// secret itself (see Name), and it is the caller who redacts.
//
// # What it does not see
//
//   - What is encrypted, and 7z, rar, lz4, lzip, lzma, compress, cab,
//     squashfs, xz with other filters than LZMA2, zips with deflate64 or LZMA,
//     the cache of pips before 2018: a Finding says that it was not looked into.
//   - Streams without a mark to know them by: zlib (git's objects, PNG, PDF),
//     brotli; a zip in base64.
//   - What zstd needs a dictionary for.
//   - In a zip of more than 64 MiB that is packed itself: members that only its
//     directory knows of. Such a zip is read front to back.
//   - The full name of a tar's member, if more than 128 KiB of attributes stand
//     before it: what is found is then said to be in the cut one.
//
// Values shorter than eight bytes are found by chance in binary files: the
// caller gives a matcher without them.
//
// # How
//
// A content is what can be read front to back: the file, or what an unpacker
// gives. It passes through a window, and is scanned as it comes in. A sweep
// follows at some distance, stops where a signature is, and lets an unpacker
// read on from there, whose output is a content of its own. If that fails the
// sweep goes back to the byte behind the signature. In a zip the sweep meets
// each local header, also one that no directory has; at the directory's end it
// visits what is only there.
package guard
