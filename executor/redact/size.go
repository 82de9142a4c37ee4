package redact

// Size is how many bytes of a value count: no white space and no control
// characters. (A value with escape sequences is looked for with and without
// them.) A value without any cannot be hidden.
func Size(value string) int { return max(len(bare(value, true)), len(bare(value, false))) }
