package experiment

import (
	"fmt"
	"reflect"
	"slices"
	"testing"
)

// What is read of a source is remembered by keys, and a key has every setting of
// the data that decides it. The settings that decide nothing of it are listed here:
// a new field of dataConfig fails this test until it is in a key or in the list.
func TestKeysOfDataHaveAllThatDecides(t *testing.T) {
	unread := []string{
		"Size", "Classes", "Remap", "Ignore", "Colors", "Augment", "Views", "Normalize", "corruption", "look", // of the pixels that are read
		"Procedural", // of a source without files
	}
	for _, split := range []splitConfig{{Method: "random"}, {Method: "original"}} {
		for _, role := range roles {
			base := dataConfig{Source: "pets", Layout: "auto", Split: split, Fraction: 0.5}
			before := base.splitKey("/", roles, role)
			var walk func(v reflect.Value, path string)
			walk = func(v reflect.Value, path string) {
				for i := range v.NumField() {
					name := v.Type().Field(i).Name
					f := reflect.NewAt(v.Field(i).Type(), v.Field(i).Addr().UnsafePointer()).Elem()
					if at := path + name; f.Kind() == reflect.Struct && !slices.Contains(unread, at) {
						walk(f, at+".")
						continue
					}
					old := reflect.ValueOf(f.Interface())
					change(t, f)
					changed := base.splitKey("/", roles, role) != before
					f.Set(old)
					switch at := path + name; {
					case slices.Contains(unread, at):
						if changed {
							t.Errorf("data.%s changes which files are read", at)
						}
					case at == "Fraction" && role != "train" && !split.likeOriginal():
						if changed {
							t.Errorf("a fraction of the training images changes the files of %s", role)
						}
					case !changed:
						t.Errorf("data.%s is in no key, and not among the settings that decide nothing of a source", at)
					}
				}
			}
			walk(reflect.ValueOf(&base).Elem(), "")
			if before == base.splitKey("/home", roles, role) || before == base.splitKey("/", []string{"test"}, role) {
				t.Error("the root or the purpose is in no key")
			}
		}
	}
}

// change gives a field another value.
func change(t *testing.T, f reflect.Value) {
	t.Helper()
	switch f.Kind() {
	case reflect.String:
		f.SetString(f.String() + "x")
	case reflect.Float64:
		f.SetFloat(f.Float() / 2)
		if f.Float() == 0 {
			f.SetFloat(0.25)
		}
	case reflect.Uint32, reflect.Uint64:
		f.SetUint(f.Uint() + 1)
	case reflect.Bool:
		f.SetBool(!f.Bool())
	case reflect.Pointer:
		f.Set(reflect.New(f.Type().Elem()))
	case reflect.Map:
		f.Set(reflect.MakeMap(f.Type()))
	case reflect.Slice:
		f.Set(reflect.MakeSlice(f.Type(), 1, 1))
	case reflect.Array:
		change(t, f.Index(0))
	case reflect.Struct:
		change(t, reflect.NewAt(f.Field(0).Type(), f.Field(0).Addr().UnsafePointer()).Elem())
	default:
		t.Fatalf("no other value of %s", f.Type())
	}
}

// Every check has a type of its own for the sections that it looks at, so that what
// one has found is never taken for what another would find.
func TestChecksHaveInputsOfTheirOwn(t *testing.T) {
	e := loadText(t, sound)[0]
	kinds := map[string]bool{}
	for key := range e.expansion.memory {
		kinds[fmt.Sprintf("%T", key)] = true
	}
	if len(kinds) != len(e.expansion.memory) {
		t.Errorf("one cell has %d checks with %d kinds of inputs", len(e.expansion.memory), len(kinds))
	}
	for key := range e.expansion.memory {
		v := reflect.ValueOf(key)
		for i := range v.NumField() {
			at := v.Field(i)
			if at.Kind() == reflect.Pointer && at.IsNil() {
				t.Errorf("%T has no %s", key, v.Type().Field(i).Name)
			}
		}
	}
}
