package gitlab

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"cleanroom/executor/audit/joblog"
)

// none fails for any log that cannot be read.
func none(t *testing.T) joblog.Lost {
	return func(job int64, why error) { t.Errorf("job %d: %v", job, why) }
}

// reads notes what a joblog.Func is called with.
func reads(t *testing.T, into map[int64]string) joblog.Func {
	return func(id int64, log io.Reader) error {
		text, err := io.ReadAll(log)
		if _, twice := into[id]; twice {
			t.Errorf("job %d came twice", id)
		}
		if err == nil {
			into[id] = string(text)
		}
		return err
	}
}

// The logs of many jobs, as cleanroom asks for them, with GitLab's own client.
func TestJobLogs(t *testing.T) {
	s := serve(t, Options{Awkward: true, Seed: 7})
	f := fakeRunner{t, s}
	sha := must[string](t)(s.AddProject(t.Context(), Project{Path: "shop/items", Dir: files(t, map[string]string{"a": "b"})}))
	if sha == "" {
		t.Fatal("no commit")
	}
	want, single := map[int64]string{}, int64(0)
	var ids []int64
	for i := range 130 { // more than a page
		spec := JobSpec{Name: fmt.Sprint("job", i), Script: []string{"true"}, Project: "shop/items"}
		if i == 60 {
			spec.Project = ""
		}
		id := must[int64](t)(s.Submit(t.Context(), spec))
		if i == 129 {
			continue // nobody takes it
		}
		j := f.take()
		text := strings.Repeat(fmt.Sprintf("line of job %d\n", id), i*50)
		for sent := 0; sent < len(text); { // the stand-in loses some on purpose
			part := text[sent:]
			res := f.patch(j, sent, part)
			switch res.StatusCode {
			case http.StatusAccepted:
				sent += len(part)
			case http.StatusRequestedRangeNotSatisfiable:
				fmt.Sscanf(res.Header.Get("Range"), "0-%d", &sent)
			}
		}
		if i == 60 {
			single = id
			continue
		}
		want[id], ids = text, append(ids, id)
	}
	g, err := joblog.Open(s.URL(), s.AccessToken(), "")
	if err != nil {
		t.Fatal(err)
	}
	same := func(what string, got map[int64]string, want ...int64) {
		t.Helper()
		for _, id := range want {
			if text, ok := got[id]; !ok || id != single && len(text) != strings.Count(text, "\n")*len(fmt.Sprintf("line of job %d\n", id)) {
				t.Errorf("%s: job %d: %t, %d bytes", what, id, ok, len(text))
			}
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d logs, want %d", what, len(got), len(want))
		}
	}
	got := map[int64]string{}
	if err := g.Project(t.Context(), "shop/items", 0, 1<<62, reads(t, got), none(t)); err != nil {
		t.Fatal(err)
	}
	same("project", got, ids...)
	for id, text := range want {
		if got[id] != text {
			t.Errorf("job %d: %d bytes, want %d", id, len(got[id]), len(text))
		}
	}
	got = map[int64]string{}
	if err := g.Project(t.Context(), fmt.Sprint(s.number("shop/items")), ids[10], ids[20], reads(t, got), none(t)); err != nil {
		t.Fatal(err)
	}
	same("range", got, ids[10:21]...)

	_, body := f.send("POST", "/api/v4/runners/verify", nil, map[string]any{"token": s.RunnerToken()})
	var runner struct{ ID int64 }
	if err := json.Unmarshal(body, &runner); err != nil {
		t.Fatal(err)
	}
	got = map[int64]string{}
	if err := g.Runner(t.Context(), runner.ID, time.Now().Add(-time.Hour), reads(t, got), none(t)); err != nil {
		t.Fatal(err)
	}
	same("runner", got, append(slices.Clone(ids), single)...)
	began := must[JobStatus](t)(s.Job(t.Context(), ids[100])).HandedAt.Truncate(time.Millisecond)
	got = map[int64]string{}
	if err := g.Runner(t.Context(), runner.ID, began, reads(t, got), none(t)); err != nil {
		t.Fatal(err)
	}
	if _, ok := got[ids[100]]; !ok || got[ids[90]] != "" || len(got) > 40 {
		t.Errorf("since the 100th: %d logs", len(got))
	}
	if err := g.Runner(t.Context(), 1, time.Time{}, reads(t, got), none(t)); err == nil || !strings.Contains(err.Error(), "404") {
		t.Error(err)
	}
}

// What the documentation says of pages, tokens and errors.
func TestRest(t *testing.T) {
	s := serve(t, Options{})
	f := fakeRunner{t, s}
	must[string](t)(s.AddProject(t.Context(), Project{Path: "shop/items", Dir: files(t, map[string]string{"a": "b"})}))
	for range 45 {
		must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "j", Script: []string{"true"}, Project: "shop/items"}))
	}
	token := map[string]string{"PRIVATE-TOKEN": s.AccessToken()}
	get := func(path string, header map[string]string) (*http.Response, []int64) {
		t.Helper()
		res, body := f.send("GET", path, header, nil)
		var jobs []struct{ ID int64 }
		if res.StatusCode == 200 {
			if err := json.Unmarshal(body, &jobs); err != nil {
				t.Fatal(err)
			}
		}
		var ids []int64
		for _, j := range jobs {
			ids = append(ids, j.ID)
		}
		return res, ids
	}
	const jobs = "/api/v4/projects/shop%2Fitems/jobs"
	res, first := get(jobs, token)
	if len(first) != 20 || !slices.IsSortedFunc(first, func(a, b int64) int { return int(b - a) }) || res.Header.Get("X-Next-Page") != "2" ||
		res.Header.Get("X-Total") != "45" || res.Header.Get("X-Total-Pages") != "3" || res.Header.Get("X-Prev-Page") != "" || !strings.Contains(res.Header.Get("Link"), `rel="last"`) {
		t.Errorf("%v %v", first, res.Header)
	}
	if res, last := get(jobs+"?page=3", map[string]string{"Authorization": "Bearer " + s.AccessToken()}); len(last) != 5 || res.Header.Get("X-Next-Page") != "" {
		t.Errorf("%v %v", last, res.Header)
	}
	if _, all := get(jobs+"?per_page=1000", token); len(all) != 45 {
		t.Errorf("%d", len(all))
	}
	// By cursor, a new job shifts nothing; no totals are given.
	all, next := first[:0:0], jobs+"?pagination=keyset&order_by=id&sort=desc&per_page=20"
	for n := 1; next != ""; n++ {
		res, ids := get(next, token)
		if all = append(all, ids...); res.Header.Get("X-Total") != "" || n > 3 {
			t.Fatalf("page %d: %v", n, res.Header)
		}
		must[int64](t)(s.Submit(t.Context(), JobSpec{Name: "new", Script: []string{"true"}, Project: "shop/items"}))
		link, _, ok := strings.Cut(strings.TrimPrefix(res.Header.Get("Link"), "<"), `>; rel="next"`)
		if next = ""; ok {
			u, err := url.Parse(link)
			if err != nil {
				t.Fatal(err)
			}
			next = u.RequestURI()
		}
	}
	if len(all) != 45 || len(slices.Compact(slices.Clone(all))) != 45 || !slices.Equal(all[:20], first) {
		t.Errorf("%d by cursor", len(all))
	}
	for path, code := range map[string]int{jobs: 401, jobs + "/5/trace": 401, "/api/v4/runners/1/jobs": 401} {
		for _, header := range []map[string]string{nil, {"PRIVATE-TOKEN": "glpat-x"}, {"JOB-TOKEN": s.AccessToken()}} {
			if res, _ := f.send("GET", path, header, nil); res.StatusCode != code {
				t.Errorf("%s with %v: %s", path, header, res.Status)
			}
		}
	}
	for _, path := range []string{"/api/v4/projects/shop%2Fother/jobs", jobs + "/5/trace", "/api/v4/runners/1/jobs"} {
		if res, _ := f.send("GET", path, token, nil); res.StatusCode != 404 {
			t.Errorf("%s: %s", path, res.Status)
		}
	}
	if res, body := f.send("GET", fmt.Sprintf("%s/%d/trace", jobs, all[0]), token, nil); res.StatusCode != 200 || len(body) != 0 || res.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("%s %q", res.Status, body)
	}
}
