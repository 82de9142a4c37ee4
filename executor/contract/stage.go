package contract

import "fmt"

// Kind says which container of the room runs a stage.
type Kind int

// Kinds of stages.
const (
	// Helper stages are the runner's own. They never see a secret, so a name
	// that we do not know is one of them.
	Helper Kind = iota
	// User stages run what the job's author wrote.
	User
)

func (k Kind) String() string {
	if k == User {
		return "user"
	}
	return "helper"
}

// Stages that a runner is known to ask for, besides step_NAME, in their order.
const (
	StagePrepareScript            = "prepare_script"
	StageGetSources               = "get_sources"
	StageClearWorktree            = "clear_worktree"
	StageRestoreCache             = "restore_cache"
	StageDownloadArtifacts        = "download_artifacts"
	StageBuildScript              = "build_script"
	StageAfterScript              = "after_script"
	StageArchiveCache             = "archive_cache"
	StageArchiveCacheOnFailure    = "archive_cache_on_failure"
	StageUploadArtifactsOnSuccess = "upload_artifacts_on_success"
	StageUploadArtifactsOnFailure = "upload_artifacts_on_failure"
	StageCleanupFileVariables     = "cleanup_file_variables"
)

// HelperStages are the runner's own, in their order.
var HelperStages = []string{
	StagePrepareScript, StageGetSources, StageClearWorktree, StageRestoreCache, StageDownloadArtifacts, StageArchiveCache,
	StageArchiveCacheOnFailure, StageUploadArtifactsOnSuccess, StageUploadArtifactsOnFailure, StageCleanupFileVariables,
}

// RunsNothing tells the stage that a clean room has no use for: the runner's
// last one, whose script removes files (variables, git's credentials and hooks,
// with FF_ENABLE_JOB_CLEANUP the project), none of them outside the room, which
// goes as a whole.
func RunsNothing(stage string) bool { return stage == StageCleanupFileVariables }

const stepPrefix = "step_"

// maxStage bounds a stage's name, in bytes. Step names are the author's.
const maxStage = 128

// Classify says where a stage runs. build_script and after_script, and
// whatever begins with step_ (step_script will replace build_script), are the
// author's; all else, known or not, is the runner's. ErrStage means a name
// with other characters than letters, digits, "_", "-" and ".", or too long.
func Classify(name string) (Kind, error) {
	if name == "" || len(name) > maxStage {
		return Helper, fmt.Errorf("%w: %d characters, allowed are 1 to %d", ErrStage, len(name), maxStage)
	}
	for i, r := range []byte(name) {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r == '_':
		case i > 0 && (r >= '0' && r <= '9' || r == '-' || r == '.'):
		default:
			return Helper, fmt.Errorf("%w: %q; allowed are letters, digits, _, - and .", ErrStage, name)
		}
	}
	switch {
	case name == StageBuildScript, name == StageAfterScript:
		return User, nil
	case len(name) > len(stepPrefix) && name[:len(stepPrefix)] == stepPrefix:
		return User, nil
	}
	return Helper, nil
}
