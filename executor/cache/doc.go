// Package cache keeps files of jobs for later jobs of the same project, on
// this host, however far away the engine is.
//
// # What it promises
//
// An entry belongs to a GitLab instance, a project's number there, the
// protection of the ref whose job wrote it, and a path, which holds the key.
// Nobody else is given it: the place of an entry's file says all of that, the
// file's header says it again, and they must agree.
//
// What is given out is, to the last byte, what was kept: a file that was
// changed, cut short, moved or that nobody of us wrote is dropped, and the
// error says so. That is known when all of it was read, as it is read only
// once: whoever reads must not use it before io.EOF has come.
//
// Any number of processes may use a store, and each may die at any instant, or
// the machine: what is half-written counts for nothing, and is swept. An entry
// may be wiped while it is read.
//
// An entry is given out until it is older than the age limit, counted from
// when it was kept. Of all entries together, and of those of one project, no
// more is kept than the limits say: those that were used least recently go. A
// job of an unprotected ref makes none of its own project's protected ones go,
// for it could not write them either.
//
// # How
//
// One file an entry, INSTANCE-pPROJECT/PROTECTION/SHA256-OF-PATH: a header of
// fixed size, which is written last, and the content. It is written below
// drafts/, under a lock by which others see that it is being written, and
// renamed. Its time of modification is that of its last use.
package cache
