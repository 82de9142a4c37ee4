package executor

import (
	"encoding/hex"
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"cleanroom/executor/contract"
)

var roomRE = regexp.MustCompile(`^cr-[a-z0-9]{1,9}-[0-9]+-[0-9a-f]{10}$`)

func TestConfigStage(t *testing.T) {
	seen := map[string]bool{}
	for range 100 {
		j := newJob(t, "19.3")
		j.variables["CI_RUNNER_SHORT_TOKEN"] = "A1b2C3d4E-x"
		x := j.executor()
		x.Call.Room, x.Call.Key = "", ""
		if err := x.ConfigStage(); err != nil {
			t.Fatal(err)
		}
		var out struct {
			JobEnv map[string]string `json:"job_env"`
		}
		if err := json.Unmarshal(j.out.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		x.Call.Room, x.Call.Key = out.JobEnv[contract.RoomVariable], out.JobEnv[contract.KeyVariable]
		name, key, err := x.room()
		if err != nil || !strings.HasPrefix(name, "cr-a1b2c3d4e-4711-") || hex.EncodeToString(key[:]) != x.Call.Key {
			t.Fatalf("%q: %v", name, err)
		}
		if seen[name] || seen[x.Call.Key] {
			t.Fatal("a room or a key came twice")
		}
		seen[name], seen[x.Call.Key] = true, true
	}
}

func FuzzRoomName(f *testing.F) {
	for _, runner := range []string{"", "a1b2c3d4e", "../../etc", "-", "cr-", "\x00\n", "ÄÖ", "İstanbul", "ſs", "$(id)", "a b", strings.Repeat("x", 1000), "\xff\xfe"} {
		f.Add(runner, int64(4711))
	}
	f.Add("x", int64(1)<<62)
	f.Fuzz(func(t *testing.T, runner string, job int64) {
		if job < 1 { // the response's parser refuses these
			job = 1
		}
		name := roomName(runner, job)
		if !roomRE.MatchString(name) || !validRoom(name) {
			t.Errorf("%q", name)
		}
	})
}

func FuzzRoom(f *testing.F) {
	for _, seed := range [][2]string{
		{testRoom, testKey}, {"", ""}, {"cr-", testKey}, {testRoom, testKey + "00"}, {testRoom, testKey + testKey}, {testRoom, testKey[1:]},
		{testRoom, strings.Repeat("g", 64)}, {"cr-../..", testKey}, {"cr-a\n", testKey}, {"cr-" + strings.Repeat("a", 100), testKey}, {testRoom, strings.ToUpper(testKey)},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, room, key string) {
		x := &Executor{Call: &contract.Call{Room: room, Key: key}}
		name, got, err := x.room()
		if err != nil {
			if key != "" && len(key) > 8 && !strings.Contains(room, key) && strings.Contains(err.Error(), key) {
				t.Errorf("the key is in %q", err)
			}
			return
		}
		if name != room || len(name) > 64 || strings.ContainsAny(name, "/.\x00\n ") || !strings.EqualFold(hex.EncodeToString(got[:]), key) {
			t.Errorf("%q, %q", name, key)
		}
	})
}
