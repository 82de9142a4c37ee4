// Package fields stands in for labkit's names of log fields.
package fields

// The names that the runner uses. labkit may spell them otherwise: they are seen in the log of the runner only.
const (
	DurationS      = "duration_s"
	HTTPStatusCode = "status"
)

// Deprecated maps an old name to the one that replaces it. Empty: the runner goes on with its old names, as it does by default.
var Deprecated map[string]struct{ Standard string }

// VariantVersion says from which version of the schema on a name is used.
var VariantVersion map[string]int
