package policy

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"unicode"

	"cleanroom/config"
	"cleanroom/config/glob"
	"cleanroom/executor/contract"
)

// Bounds of what an admin may write: far above what anybody needs, so that a
// runaway generator of rules is told, and compiling stays quick.
const (
	maxRules = 1000
	maxList  = 1000
	maxHint  = 500
)

var ruleNameRE = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`) })

// hardening profiles that a rule may list.
var hardening = []string{"compatible", "hardened", "strict"}

// known are the names that rules refer to.
type known struct{ profiles, secrets []string }

// helperStages are those of the runner's own that run something.
var helperStages = slices.DeleteFunc(slices.Clone(contract.HelperStages), contract.RunsNothing)

// isStage says whether a runner may call a stage that runs something, or a rule
// a service, so.
func isStage(name string) bool {
	switch name {
	case "script", contract.StageBuildScript, contract.StageAfterScript:
		return true
	}
	return strings.HasPrefix(name, "step_") || strings.HasPrefix(name, "service:") || slices.Contains(helperStages, name)
}

// rule is one that can decide.
type rule struct {
	source    config.Rule // its When in canonical form
	conjuncts []conjunct
}

// compileRule checks and compiles one rule, but for its name.
func compileRule(source config.Rule, k known) (rule, error) {
	if err := checkHint(source.Hint); err != nil {
		return rule{}, err
	}
	if len(source.Secrets)+len(source.Images)+len(source.Services)+len(source.Profiles)+len(source.Caches)+len(source.Warn) == 0 {
		return rule{}, errors.New("it grants nothing: list secrets, images, services, profiles, caches or warn")
	}
	if len(source.Stages) > 0 && len(source.Secrets) == 0 {
		return rule{}, errors.New("it has stages but no secrets: stages say which ones get the secrets")
	}
	for _, list := range []struct {
		key   string
		globs []string
	}{
		{"secrets", source.Secrets}, {"images", source.Images}, {"services", source.Services}, {"stages", source.Stages}, {"caches", source.Caches}, {"warn", source.Warn},
	} {
		if len(list.globs) > maxList {
			return rule{}, fmt.Errorf("%s: %d entries, at most %d are possible", list.key, len(list.globs), maxList)
		}
		for _, pattern := range list.globs {
			if err := glob.Check(pattern); err != nil {
				return rule{}, fmt.Errorf("%s: %w", list.key, err)
			}
		}
	}
	for _, pattern := range source.Warn {
		if path.Clean(pattern) != pattern || strings.HasPrefix(pattern, "/") || strings.HasPrefix(pattern, "../") {
			return rule{}, fmt.Errorf("warn: %s matches no file: write globs relative to the project's folder, like tests/fixtures/**", shortQuote(pattern))
		}
	}
	for _, name := range source.Secrets {
		if !glob.IsPattern(name) && !slices.Contains(k.secrets, name) {
			return rule{}, fmt.Errorf("secrets: no secret %s is configured%s", shortQuote(name), didYouMean(name, k.secrets))
		}
	}
	for _, name := range source.Stages {
		if !glob.IsPattern(name) && !isStage(name) {
			return rule{}, fmt.Errorf("stages: %s is no stage: use script, after_script, step_NAME, service:ALIAS, or one of the runner's own (%s)%s",
				shortQuote(name), strings.Join(helperStages, ", "), didYouMean(name, append([]string{"script", "after_script"}, helperStages...)))
		}
	}
	for _, name := range source.Identity {
		if !slices.Contains(k.profiles, name) {
			return rule{}, fmt.Errorf("identity: no identity profile %s is configured%s", shortQuote(name), didYouMean(name, k.profiles))
		}
	}
	for _, name := range source.Profiles {
		if !slices.Contains(hardening, name) {
			return rule{}, fmt.Errorf("profiles: %s is none of %s", shortQuote(name), strings.Join(hardening, ", "))
		}
	}
	conjuncts, canonical, err := compileWhen(source.When)
	if err != nil {
		return rule{}, fmt.Errorf("when: %w", err)
	}
	source.When = canonical
	return rule{source: source, conjuncts: conjuncts}, nil
}

// checkHint keeps what a rule says to developers on the one line it has.
func checkHint(hint string) error {
	switch {
	case len(hint) > maxHint:
		return fmt.Errorf("hint: %d bytes, at most %d are possible", len(hint), maxHint)
	case strings.ContainsFunc(hint, unicode.IsControl):
		return errors.New("hint: it must be one line")
	}
	return nil
}

// globs of what a rule grants of a kind.
func (r rule) globs(kind Kind) []string {
	switch kind {
	case Secret:
		return r.source.Secrets
	case Image:
		return r.source.Images
	case Service:
		return r.source.Services
	case Profile:
		return r.source.Profiles
	case Cache:
		return r.source.Caches
	case Warn:
		return r.source.Warn
	default:
		return nil
	}
}

// lists says whether a rule grants this thing to somebody.
func (r rule) lists(kind Kind, name string) bool {
	return slices.ContainsFunc(r.globs(kind), func(pattern string) bool { return glob.Match(pattern, name) })
}
