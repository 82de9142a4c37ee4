package main

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode"

	"cleanroom/sandbox"
)

// Whatever a job's author gets into a name, the admin's terminal does nothing.
func TestRoomsArePlain(t *testing.T) {
	const nasty = "a\x1b[2J\u009b31m\u202e\n\x07\U000e0001 ü"
	n := nowOf(sandbox.RoomInfo{Name: "cr-a-7-0123456789", Created: time.Now(), Labels: map[string]string{"cleanroom.job": "7", "cleanroom.project": nasty}},
		sandbox.Usage{Image: nasty, ImageID: nasty, Known: true, CPU: 12.6, Memory: 5 << 20}, t.TempDir())
	stage := nasty
	n.Stage = &stage
	var table, text bytes.Buffer
	if err := showRooms(&table, []roomNow{n}); err != nil {
		t.Fatal(err)
	}
	if err := plainJSON(&text, []roomNow{n}); err != nil {
		t.Fatal(err)
	}
	for _, out := range []string{table.String(), text.String()} {
		if i := strings.IndexFunc(strings.ReplaceAll(out, "\n", ""), func(r rune) bool { return r != ' ' && !unicode.IsPrint(r) }); i >= 0 {
			t.Errorf("%q", out)
		}
	}
	if strings.Count(table.String(), "\n") != 2 || strings.Count(text.String(), "\n") != 1 || !strings.HasSuffix(table.String(), "  13%  5MiB\n") {
		t.Errorf("%s\n%s", &table, &text)
	}
	var back []roomNow
	if err := json.Unmarshal(text.Bytes(), &back); err != nil || *back[0].Image != nasty || back[0].Labels["cleanroom.project"] != nasty {
		t.Errorf("%+v, %v", back, err)
	}
}

// What is not known is "-", and null.
func TestUnknownIsSaid(t *testing.T) {
	n := nowOf(sandbox.RoomInfo{Name: "cr-x"}, sandbox.Usage{CPU: 5}, t.TempDir())
	var table, text bytes.Buffer
	if err := showRooms(&table, []roomNow{n}); err != nil {
		t.Fatal(err)
	}
	if fields := strings.Fields(strings.Split(table.String(), "\n")[1]); !reflect.DeepEqual(fields[:4], []string{"cr-x", "-", "-", "-"}) || !reflect.DeepEqual(fields[6:], []string{"-", "-", "-"}) {
		t.Errorf("%q", fields)
	}
	if err := plainJSON(&text, n); err != nil || !strings.Contains(text.String(), `"stage":null,"stage_began":null,"cpu_percent":null,"memory_bytes":null`) {
		t.Errorf("%s, %v", &text, err)
	}
	for _, name := range []string{"room", "job", "project", "image", "image_id", "created", "age_seconds", "deadline", "stage", "stage_began", "cpu_percent", "memory_bytes", "labels"} {
		if !strings.Contains(text.String(), `"`+name+`":`) || !strings.Contains(roomList(&globals{}).Long, name) {
			t.Errorf("%s is not there, or not documented", name)
		}
	}
}
