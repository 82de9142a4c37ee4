package secret

import (
	"slices"
	"strings"

	"cleanroom/config/glob"
)

// The stages that get a secret when its rule names none: the user's own.
var defaultStages = []string{"script", "step_*", "after_script"}

// Gets says whether a stage gets the delivery. A runner calls the user's
// script build_script or step_script: rules call it script.
func (d Delivery) Gets(stage string) bool {
	globs := d.Stages
	if len(globs) == 0 {
		globs = defaultStages
	}
	names := []string{stage}
	if stage == "build_script" || stage == "step_script" {
		names = append(names, "script")
	}
	return slices.ContainsFunc(globs, func(pattern string) bool {
		if strings.HasPrefix(stage, servicePrefix) && !strings.HasPrefix(pattern, servicePrefix) {
			return false // services are named as such: "*" is all stages
		}
		return slices.ContainsFunc(names, func(name string) bool { return glob.Match(pattern, name) })
	})
}

// ServiceStage is how a rule's stages call a service: service:ALIAS.
func ServiceStage(alias string) string { return servicePrefix + strings.ToLower(alias) }

const servicePrefix = "service:"
