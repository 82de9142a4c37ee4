package policy

import (
	"cleanroom/config"
	"cleanroom/executor/policy/verdict"
)

const maxQuote = verdict.MaxQuote

func shortQuote(s string) string { return verdict.ShortQuote(s) }

func short(s string, most int) string { return verdict.Short(s, most) }

// didYouMean names the candidate that is nearest, if one is near.
func didYouMean(name string, candidates []string) string {
	if near := config.Nearest(name, candidates); near != "" {
		return "; did you mean " + near + "?"
	}
	return ""
}
