package sandbox

import "context"

// Kept is a small private text that outlives rooms and a crash at any instant.
// An engine keeps in it what nobody may forget, and needs to know of no disk.
type Kept interface {
	// Read returns the text; nil, when nobody has kept one yet.
	Read() ([]byte, error)
	// Change replaces the text by what change makes of it, whole or not at
	// all; nil leaves it. What is new is on disk when Change has returned.
	// Other processes that want to change it wait meanwhile, as long as their
	// ctx allows.
	Change(ctx context.Context, change func(text []byte) ([]byte, error)) error
}
