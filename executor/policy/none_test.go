package policy

import (
	"reflect"
	"testing"

	"cleanroom/config"
	"cleanroom/executor/identity"
	"cleanroom/executor/policy/verdict"
)

// A program without conditions answers for no rules as this one does.
func TestNone(t *testing.T) {
	p, err := FromConfig(config.Default())
	if err != nil {
		t.Fatal(err)
	}
	none, facts := verdict.None{}, identity.Facts{"ref": {Value: "main", Source: "s"}}
	for _, kind := range []Kind{Secret, Image, Service, Profile, Cache, Warn} {
		for _, name := range []string{"x", "a\nb"} {
			if want, got := p.Decide(kind, name, facts), none.Decide(kind, name, facts); !reflect.DeepEqual(got, want) {
				t.Errorf("%s %q: %+v, want %+v", kind, name, got, want)
			}
		}
	}
	if got := none.Waivers(facts); len(got) != len(p.Waivers(facts)) {
		t.Errorf("waivers %+v", got)
	}
	if got := none.CacheGrants(facts); !reflect.DeepEqual(got, p.CacheGrants(facts)) {
		t.Errorf("grants of caches %+v", got)
	}
	if none.Version() != p.Version() || !reflect.DeepEqual(none.Rules(), p.Rules()) {
		t.Errorf("version %s, want %s; rules %+v", none.Version(), p.Version(), none.Rules())
	}
}
