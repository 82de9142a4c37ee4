package gitlab

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/integration/gitlab/job"
)

const pipelineFile = `
stages: [build, test, deploy]
compile:
  stage: build
  script: [make]
  artifacts: {paths: [out], reports: {dotenv: v.env}}
flaky:
  stage: test
  script: [flaky]
  allow_failure: {exit_codes: [3]}
unit:
  stage: test
  script: [unit]
rescue:
  stage: test
  when: on_failure
  script: [rescue]
ship:
  stage: deploy
  script: [ship]
  id_tokens: {TOKEN: {aud: https://vault.example}}
alarm:
  stage: .post
  when: on_failure
  script: [alarm]
early:
  stage: deploy
  needs: [compile]
  script: [early]
tidy:
  stage: .post
  when: always
  needs: []
  script: [tidy]
`

// play runs a pipeline with a runner that ends each job as told: "" is success, a number an exit code.
func play(t *testing.T, s *Server, codes map[string]int) (PipelineStatus, map[string]string) {
	t.Helper()
	f := fakeRunner{t, s}
	id := must[int64](t)(s.Pipeline(t.Context(), "shop/items", "main"))
	seen := map[string]string{}
	for {
		p := must[PipelineStatus](t)(s.PipelineStatus(t.Context(), id))
		if p.Done {
			return p, seen
		}
		j := f.take()
		seen[j.JobInfo.Name] = value(j, "VERSION")
		if j.JobInfo.Name == "compile" {
			f.upload(j.ID, j.Token, "dotenv", "gzip", "v.env.gz", gzipped("VERSION=7\n"))
		}
		if code := codes[j.JobInfo.Name]; code != 0 {
			f.finish(j, "failed", map[string]any{"exit_code": code, "failure_reason": "script_failure"})
			continue
		}
		f.finish(j, "success", nil)
	}
}

func TestPipelines(t *testing.T) {
	s := serve(t, Options{})
	dir := files(t, map[string]string{".gitlab-ci.yml": pipelineFile})
	must[string](t)(s.AddProject(t.Context(), Project{Path: "shop/items", Dir: dir}))
	const S, F, K = job.Success, job.Failed, job.Skipped
	for _, c := range []struct {
		codes map[string]int
		want  map[string]job.State
		state job.State
	}{
		{nil, map[string]job.State{"compile": S, "flaky": S, "unit": S, "rescue": K, "ship": S, "alarm": K, "early": S, "tidy": S}, S},
		{map[string]int{"flaky": 3}, map[string]job.State{"compile": S, "flaky": F, "unit": S, "rescue": K, "ship": S, "alarm": K, "early": S, "tidy": S}, S},
		{map[string]int{"flaky": 4}, map[string]job.State{"compile": S, "flaky": F, "unit": S, "rescue": K, "ship": K, "alarm": S, "early": S, "tidy": S}, F},
		{map[string]int{"compile": 1}, map[string]job.State{"compile": F, "flaky": K, "unit": K, "rescue": S, "ship": K, "alarm": S, "early": K, "tidy": S}, F},
	} {
		p, seen := play(t, s, c.codes)
		got := map[string]job.State{}
		for _, st := range p.Jobs {
			got[st.Name] = st.State
		}
		if !maps.Equal(got, c.want) || p.State != c.state {
			t.Errorf("with %v: %s %v, want %s %v", c.codes, p.State, got, c.state, c.want)
		}
		if c.codes == nil && (seen["unit"] != "7" || seen["early"] != "7" || seen["tidy"] != "") {
			t.Errorf("dotenv variables went to %v", seen)
		}
		if flaky, _ := p.Job("flaky"); flaky.Allowed != (c.codes["flaky"] == 3) {
			t.Errorf("with %v flaky is allowed: %t", c.codes, flaky.Allowed)
		}
	}
	dir = files(t, map[string]string{".gitlab-ci.yml": "a: {script: x, trigger: y}"})
	must[string](t)(s.AddProject(t.Context(), Project{Path: "shop/items", Dir: dir}))
	if _, err := s.Pipeline(t.Context(), "shop/items", ""); err == nil || !strings.Contains(err.Error(), `"trigger"`) {
		t.Errorf("a file that is not understood: %v", err)
	}
}

func TestResponseHoldsWhatGitLabSends(t *testing.T) {
	s := serve(t, Options{})
	f := fakeRunner{t, s}
	must[string](t)(s.AddProject(t.Context(), Project{Path: "shop/items", Dir: files(t, map[string]string{"a": "b"}), Variables: []ProjectVariable{
		{Variable: Variable{Key: "EVERY", Value: "1", Masked: true}}, {Variable: Variable{Key: "PROD", Value: "2", Masked: true, File: true}, Protected: true}}}))
	must[string](t)(s.AddProject(t.Context(), Project{Path: "shop/items", Branch: "topic", Dir: files(t, map[string]string{"a": "c"})}))
	for _, ref := range []string{"main", "topic"} {
		must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "Über all", Project: "shop/items", Ref: ref, Script: []string{"a"}, BeforeScript: []string{"b"},
			AfterScript: []string{"c"}, IDTokens: map[string][]string{"TOKEN": {"https://vault.example"}}, User: User{ID: 9, Login: "eve"}}))
		res, body := f.send("POST", "/api/v4/jobs/request", nil, map[string]string{"token": s.RunnerToken()})
		if res.StatusCode != 201 || res.Header.Get("Content-Type") != "application/json" {
			t.Fatalf("%s", res.Status)
		}
		var raw map[string]json.RawMessage
		if err := json.Unmarshal(body, &raw); err != nil {
			t.Fatal(err)
		}
		for _, key := range strings.Fields(`id token allow_git_fetch job_info git_info runner_info inputs variables steps hooks image services
			artifacts cache credentials dependencies features policy_options`) {
			if raw[key] == nil {
				t.Errorf("%s is missing", key)
			}
		}
		var j struct {
			Variables []Variable
			Steps     []Step
		}
		json.Unmarshal(body, &j)
		vars := map[string]Variable{}
		for _, v := range j.Variables {
			vars[v.Key] = v
		}
		_, prod := vars["PROD"]
		if prod != (ref == "main") || vars["EVERY"].Value != "1" {
			t.Errorf("settings on %s: %v", ref, vars["PROD"])
		}
		if v := vars["CI_COMMIT_REF_PROTECTED"].Value; v != fmt.Sprint(ref == "main") {
			t.Errorf("%s protected: %s", ref, v)
		}
		if !vars["CI_JOB_TOKEN"].Masked || vars["CI_JOB_TOKEN"].Public || vars["CI_JOB_NAME_SLUG"].Value != "ber-all" {
			t.Errorf("%+v %+v", vars["CI_JOB_TOKEN"], vars["CI_JOB_NAME_SLUG"])
		}
		if len(j.Steps) != 2 || !slices.Equal(j.Steps[0].Script, []string{"b", "a"}) || j.Steps[1].When != "always" {
			t.Errorf("%+v", j.Steps)
		}
		parts := strings.Split(vars["TOKEN"].Value, ".")
		claims, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err != nil || !strings.Contains(string(claims), `"sub":"project_path:shop/items:ref_type:branch:ref:`+ref+`"`) ||
			!strings.Contains(string(claims), `"user_login":"eve"`) || !vars["TOKEN"].Masked {
			t.Errorf("%s %v", claims, err)
		}
	}
}

// TestIDTokenVerifies does what Vault does: it finds the key by way of the issuer and checks the signature.
func TestIDTokenVerifies(t *testing.T) {
	s := serve(t, Options{})
	f := fakeRunner{t, s}
	must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "x", Script: []string{"x"}, IDTokens: map[string][]string{"TOKEN": {"a", "b"}}}))
	token := value(f.take(), "TOKEN")
	var where struct {
		Issuer string
		JWKS   string `json:"jwks_uri"`
	}
	_, body := f.send("GET", "/.well-known/openid-configuration", nil, nil)
	if err := json.Unmarshal(body, &where); err != nil || where.Issuer != s.URL() {
		t.Fatalf("%s", body)
	}
	_, body = f.send("GET", strings.TrimPrefix(where.JWKS, s.URL()), nil, nil)
	var set struct{ Keys []struct{ N, E string } }
	if err := json.Unmarshal(body, &set); err != nil || len(set.Keys) != 1 {
		t.Fatalf("%s", body)
	}
	decode := func(part string) []byte { return must[[]byte](t)(base64.RawURLEncoding.DecodeString(part)) }
	key := rsa.PublicKey{N: new(big.Int).SetBytes(decode(set.Keys[0].N)), E: int(new(big.Int).SetBytes(decode(set.Keys[0].E)).Int64())}
	at := strings.LastIndexByte(token, '.')
	sum := sha256.Sum256([]byte(token[:at]))
	if err := rsa.VerifyPKCS1v15(&key, crypto.SHA256, sum[:], decode(token[at+1:])); err != nil {
		t.Error(err)
	}
}

// TestTLS serves https with a certificate of its own.
func TestTLS(t *testing.T) {
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key))
	secret := must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	dir := files(t, map[string]string{"cert": string(cert), "key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))})
	s := serve(t, Options{TLSCert: dir + "/cert", TLSKey: dir + "/key"})
	c := must[*Client](t)(NewClient(s.URL(), s.ControlToken(), cert))
	if info := must[Info](t)(c.Info(soon(t))); !strings.HasPrefix(info.URL, "https://") {
		t.Errorf("%+v", info)
	}
}

// TestClient plays one pipeline and one job through HTTP.
func TestClient(t *testing.T) {
	s := serve(t, Options{})
	f := fakeRunner{t, s}
	c := must[*Client](t)(NewClient(s.URL(), s.ControlToken(), nil))
	ctx := soon(t)
	info := must[Info](t)(c.Info(ctx))
	if info.URL != s.URL() || info.RunnerToken != s.RunnerToken() {
		t.Errorf("%+v", info)
	}
	dir := files(t, map[string]string{".gitlab-ci.yml": "a: {script: x}", "deep/er/file": "y"})
	sha := must[string](t)(c.AddProject(ctx, Project{Path: "shop/items", Dir: dir}))
	if blob, ok := s.repos.Blob(ctx, "shop/items", sha, "deep/er/file"); !ok || blob == "" {
		t.Error("the tree did not arrive")
	}
	pipe := must[int64](t)(c.Pipeline(ctx, "shop/items", "main"))
	f.finish(f.take(), "success", nil)
	if p := must[PipelineStatus](t)(c.WaitPipeline(ctx, pipe)); p.State != job.Success || p.SHA != sha {
		t.Errorf("%+v", p)
	}
	id := must[int64](t)(c.Submit(ctx, JobSpec{Name: "x", Script: []string{"x"}}))
	j := f.take()
	if err := c.Forget(ctx, id); err == nil {
		t.Error("the trace of a job that runs was dropped")
	}
	go f.patch(j, 0, "one READY two")
	if st := must[JobStatus](t)(c.WaitTrace(ctx, id, "READY")); string(st.Trace) != "one READY two" {
		t.Errorf("%q", st.Trace)
	}
	content := zipped(t, "a", "b")
	f.upload(j.ID, j.Token, "archive", "zip", "a.zip", content)
	if got := must[[]byte](t)(c.Artifact(ctx, id, "archive")); string(got) != string(content) {
		t.Error("artifact differs")
	}
	if err := c.Cancel(ctx, id, true); err != nil {
		t.Fatal(err)
	}
	f.put(j, "failed", "one READY two", map[string]any{"failure_reason": "job_canceled"})
	if st := must[JobStatus](t)(c.Wait(ctx, id)); st.State != job.Canceled || len(st.Trace) == 0 {
		t.Errorf("%+v", st)
	}
	if _, err := c.WaitTrace(ctx, id, "never"); err == nil {
		t.Error("a text that never came was found")
	}
	if err := c.Forget(ctx, id); err != nil {
		t.Fatal(err)
	}
	if st := must[JobStatus](t)(c.Job(ctx, id)); st.State != job.Canceled || len(st.Trace) > 0 {
		t.Errorf("after its trace was dropped: %+v", st)
	}
	if all := must[[]JobStatus](t)(c.Jobs(ctx)); len(all) != 2 {
		t.Errorf("%d jobs", len(all))
	}
	var states []string
	for _, e := range must[[]Event](t)(c.Events(ctx, 0)) {
		states = append(states, string(e.State))
	}
	if got := strings.Join(states, " "); got != "created pending running success pending running canceling canceled" {
		t.Errorf("events: %s", got)
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Events(short, 100); !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for events: %v", err)
	}
}

// TestAwkward runs jobs against the server's bad side, and finds the same end every time.
func TestAwkward(t *testing.T) {
	difficulties := 0
	for seed := range uint64(8) {
		s := serve(t, Options{Seed: seed, Awkward: true})
		f := fakeRunner{t, s}
		id := must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "x", Script: []string{"x"}, Image: &Image{Name: "i",
			ExecutorOpts: ExecutorOpts{Docker: &DockerOpts{User: "u"}}}}))
		j := f.take()
		if j.ID < 2 || j.Image.ExecutorOpts.Docker.User != "u" {
			t.Errorf("%+v", j)
		}
		const trace = "0123456789abcdefghij"
		for at, tries := 0, 0; at < len(trace); tries++ {
			end := min(at+5, len(trace))
			switch res := f.patch(j, at, trace[at:end]); res.StatusCode {
			case 202:
				at = end
			case 416:
				fmt.Sscanf(res.Header.Get("Range"), "0-%d", &at)
				difficulties++
			case 500, 502:
				difficulties++
			default:
				t.Fatal(res.Status)
			}
			if tries > 20 {
				t.Fatal("the trace never gets through")
			}
		}
		for tries := 0; ; tries++ {
			res := f.put(j, "success", trace, nil)
			if res.StatusCode == 200 {
				break
			}
			if difficulties++; res.StatusCode != 202 || tries > 3 {
				t.Fatal(res.Status)
			}
		}
		if st := must[JobStatus](t)(s.Wait(soon(t), id)); st.State != job.Success || string(st.Trace) != trace || st.TraceError != "" {
			t.Errorf("seed %d: %+v", seed, st)
		}
	}
	if difficulties == 0 {
		t.Error("eight seeds, and no difficulty at all")
	}
}
