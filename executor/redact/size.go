package redact

// Size is how many bytes of a value count: no white space, no control
// characters, no escape sequences. A value without any cannot be hidden.
func Size(value string) int { return len(bare(value, true)) }
