package identity

import (
	"path"

	"cleanroom/executor/contract"
)

// FromJob takes facts from what the GitLab server wrote into the job response
// (job_info and git_info). A runner that does not hand a field on leaves it
// zero (17 gives few of them): such a fact is not known.
//
// The job's variables are no source, not even for what the server is known to
// put there: the author's stand among them under any name.
func FromJob(job *contract.Job) Facts {
	f := Facts{}
	number := func(name string, value int64, field string) {
		if value > 0 {
			f[name] = Fact{value, "job response (" + field + ")"}
		}
	}
	text := func(name, value, field string) {
		if value != "" {
			f[name] = Fact{value, "job response (" + field + ")"}
		}
	}
	number("job_id", job.ID, "id")
	number("project_id", job.JobInfo.ProjectID, "job_info.project_id")
	number("namespace_id", job.JobInfo.NamespaceID, "job_info.namespace_id")
	number("pipeline_id", job.JobInfo.PipelineID, "job_info.pipeline_id")
	number("user_id", job.JobInfo.UserID, "job_info.user_id")
	text("job_name", job.JobInfo.Name, "job_info.name")
	text("project_path", job.JobInfo.ProjectFullPath, "job_info.project_full_path")
	if namespace := path.Dir(job.JobInfo.ProjectFullPath); namespace != "." && namespace != "/" {
		text("namespace_path", namespace, "job_info.project_full_path")
	}
	text("ref", job.GitInfo.Ref, "git_info.ref")
	text("ref_type", job.GitInfo.RefType, "git_info.ref_type")
	text("sha", job.GitInfo.SHA, "git_info.sha")
	if p := job.GitInfo.Protected; p != nil {
		f["ref_protected"] = Fact{*p, "job response (git_info.protected)"}
	}
	return f
}
