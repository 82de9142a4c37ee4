package report

import (
	"reflect"
	"time"

	"cleanroom/executor/audit/record"
)

// nasty is what somebody may call a branch, a file or an image.
var nasty = []string{
	`</style><script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `javascript:alert(1)`, `{{.Head}}{{template "jobs"}}`,
	`</title></svg></table></main><h1>verified</h1>`, `--><!--`, `]]>`, "\x1b[2J\x1b]8;;http://x\x07", "\u202egnp.exe\u2066", "\u009b31m", "\U000e0001\ufeff\u200b",
	"Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e", "a\x00b\r\nc\td\u2028e", "ﷺﷺﷺﷺﷺﷺ", "שלום", "url(http://x)", "</textarea><!DOCTYPE", "&lt;b&gt;&amp;", "`${alert(1)}`",
}

// hostileLog has a record of each kind with the text in every field that takes
// any, even where the schema would not have it.
func hostileLog(text string, at time.Time) (all []*record.Record) {
	bodies := []struct {
		kind record.Kind
		body any
	}{{record.OfJob, new(record.Job)}, {record.OfReap, new(record.Reap)}, {record.OfConfig, new(record.Config)}, {record.OfPolicy, new(record.Policy)},
		{record.OfSecret, new(record.Change)}, {record.OfCache, new(record.Cache)}, {record.OfKey, new(record.Key)}, {record.OfBegun, new(record.Begun)}}
	for _, of := range bodies {
		r := &record.Record{}
		fill(reflect.ValueOf(r).Elem(), text, at)
		r.Kind, r.Job, r.Reap, r.Config, r.Policy, r.Secret, r.Cache, r.Key, r.Begun = of.kind, nil, nil, nil, nil, nil, nil, nil, nil
		body := reflect.ValueOf(of.body)
		fill(body.Elem(), text, at)
		for i := range reflect.ValueOf(r).Elem().NumField() {
			if f := reflect.ValueOf(r).Elem().Field(i); f.Type() == body.Type() {
				f.Set(body)
			}
		}
		all = append(all, r)
	}
	return all
}

// fill puts the text wherever a text can be.
func fill(v reflect.Value, text string, at time.Time) {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(at))
			return
		}
		for i := range v.NumField() {
			fill(v.Field(i), text, at)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), text, at)
		fill(v.Index(1), text, at)
	case reflect.String:
		v.SetString(text)
	case reflect.Interface:
		v.Set(reflect.ValueOf(text))
	case reflect.Int, reflect.Int64:
		v.SetInt(7)
	}
}
