package report

import (
	"reflect"

	"cleanroom/executor/audit/record"
	"cleanroom/executor/plain"
)

// scrub makes every text of a record one that can be shown: here, so that no
// row can forget to. Escaping for HTML is the template's.
func scrub(r *record.Record) { scrubValue(reflect.ValueOf(r).Elem()) }

func scrubValue(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			scrubValue(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() { // a time has no other
				scrubValue(v.Field(i))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			scrubValue(v.Index(i))
		}
	case reflect.String:
		v.SetString(plain.Text(v.String()))
	case reflect.Interface: // a fact
		if s, ok := v.Interface().(string); ok {
			v.Set(reflect.ValueOf(plain.Text(s)))
		}
	}
}
