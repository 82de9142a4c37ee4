// Package slsa says, signed and in a form that others' verifiers read,
// where a job's artifacts come from: an in-toto Statement v1
// (https://in-toto.io/Statement/v1) with SLSA provenance v1
// (https://slsa.dev/provenance/v1), in a DSSE envelope.
//
// # What it promises
//
// The same job and files give the same bytes: the statement is RFC 8785's
// canonical JSON, and so is, with Ed25519, the envelope. It is at most
// provenance.MaxStatement bytes, whatever a job stores. No value of a variable is
// put into it, and each text that a job's author has a say in is passed through
// the caller's hide first, as the job's log is. A file in which a rule let a secret
// pass is no subject: its hash would be a way to guess the secret. What was
// signed is verified with the public key before it is given out.
//
// # What a subject is
//
// A regular file as the guard read it, before the upload: not the archive that
// GitLab keeps, nor links and folders in it. What a glob may choose is a
// subject, even where the uploader is known to leave something out: a subject
// says "this job made it", not "GitLab has it".
//
// The name is the path below the project's folder. One that is not UTF-8 has
// its "%" and its bad bytes written %XX, and the annotation "nameEncoding":
// "percent". The annotation "artifacts" names those that the file may be part
// of: "artifact NAME", or a report's type, as junit.
//
// Verifiers take a limited number of subjects (sigstore's 1024). A job with
// more files than MaxSubjects, or very long names, has instead one subject for
// each artifact: the digest of the list of its files, with the annotations
// "list": "sha256sum" and "files", how many. The list is what this prints in
// the folder where the artifact was unpacked:
//
//	find . -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum
//
// # The build type
//
// BuildType is a job of GitLab's that cleanroom ran in a room of its own.
//
// externalParameters: "facts", the job's facts by name, each with "value"
// (numbers as decimal strings, as GitLab's ID tokens have them) and "source",
// who vouches for it; "artifacts", the "type" and the "name" of each, as
// .gitlab-ci.yml has it. All else that a job's author chose follows from
// .gitlab-ci.yml at the commit.
//
// internalParameters: "profile", the room's; "stage", that of the runner which
// stores the files: upload_artifacts_on_success is of a job that went well,
// upload_artifacts_on_failure of one that did not; "withheld", how many files
// are no subjects because of a secret.
//
// resolvedDependencies: the commit (gitCommit, or for a SHA-256 repository
// gitCommitSha256), and the images by their role ("job", "helper", "service").
// Of an image from a registry the digest is its manifest's; of one that only
// the engine has, which the annotation "digestOf": "image id" says, the
// engine's ID.
//
// runDetails: the builder's ID is the admin's word. The invocation is the job's
// URL. A job is finished, here, when its files were looked through.
package slsa
