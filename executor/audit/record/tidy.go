package record

import (
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// most is the largest whole number that JSON is sure to keep (RFC 8785, 2^53-1).
const most = 1<<53 - 1

// tidy puts everything into the form and the bounds that the fields' max tags
// say: bytes of a text, entries of a list, then bytes of each.
func (r *Record) tidy() {
	t := &tidier{cuts: &r.Cut}
	t.fields(reflect.ValueOf(r).Elem(), "")
}

// Bound cuts a job's lists and texts to what a record may have at most, and
// says what was cut.
func (j *Job) Bound() []Cut {
	r := &Record{Job: j}
	r.tidy()
	return r.Cut
}

type tidier struct{ cuts *[]Cut }

func (t *tidier) fields(v reflect.Value, name string) {
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if v.Field(i).Addr().Interface() == any(t.cuts) {
			continue
		}
		list, text := bounds(f.Tag.Get("max"), f.Type.Kind() == reflect.Slice)
		t.value(v.Field(i), join(name, jsonName(f)), list, text)
	}
}

// bounds are a max tag: "16,32", and "32" of a text, or of a list whose
// entries have their own.
func bounds(tag string, slice bool) (list, text int) {
	first, second, both := strings.Cut(tag, ",")
	if both || slice {
		list, _ = strconv.Atoi(first)
		first = second
	}
	text, _ = strconv.Atoi(first)
	return list, text
}

func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	return name
}

func join(outer, inner string) string {
	if outer == "" {
		return inner
	}
	return outer + "." + inner
}

func (t *tidier) value(v reflect.Value, name string, list, text int) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			t.value(v.Elem(), name, list, text)
		}
	case reflect.Struct:
		if at, ok := v.Interface().(time.Time); ok {
			v.Set(reflect.ValueOf(when(at)))
			return
		}
		t.fields(v, name)
	case reflect.Slice:
		if dropped := v.Len() - list; dropped > 0 {
			v.SetLen(list)
			t.cut(name, dropped)
		}
		for i := range v.Len() {
			t.value(v.Index(i), name, 0, text)
		}
	case reflect.String:
		if text > 0 { // else one of a few words, which the schema names
			v.SetString(short(v.String(), text))
		}
	case reflect.Int, reflect.Int64:
		v.SetInt(min(max(v.Int(), -most), most))
	case reflect.Interface: // a fact
		if !v.IsNil() {
			v.Set(reflect.ValueOf(plain(v.Interface(), text)))
		}
	}
}

// cut notes what was left out of a list; those of one name count together.
func (t *tidier) cut(name string, dropped int) { cut(t.cuts, name, dropped) }

func cut(cuts *[]Cut, name string, dropped int) {
	for i := range *cuts {
		if (*cuts)[i].List == name {
			(*cuts)[i].Dropped += dropped
			return
		}
	}
	*cuts = append(*cuts, Cut{name, dropped})
}

// when is a time in the one form that is written, to the microsecond.
func when(t time.Time) time.Time {
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 { // no clock's, and not to be written
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}

// short is a text of at most so many bytes, all of it characters.
func short(s string, most int) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= most {
		return s
	}
	const mark = "…"
	end := most - len(mark)
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + mark
}

// plain is a fact's value as one of the three types there are.
func plain(v any, most int) any {
	switch v := v.(type) {
	case bool:
		return v
	case string:
		return short(v, most)
	case int64:
		return whole(v)
	case int:
		return whole(int64(v))
	default:
		return short("", most)
	}
}

// whole is a number, or its digits where JSON would lose some.
func whole(n int64) any {
	if n > most || n < -most {
		return strconv.FormatInt(n, 10)
	}
	return n
}

// UnmarshalJSON keeps whole numbers whole.
func (f *Fact) UnmarshalJSON(text []byte) error {
	type plainFact Fact
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.DisallowUnknownFields()
	d.UseNumber()
	if err := d.Decode((*plainFact)(f)); err != nil {
		return err
	}
	if n, ok := f.Is.(json.Number); ok {
		i, err := n.Int64()
		if err != nil {
			return err
		}
		f.Is = i
	}
	return nil
}
