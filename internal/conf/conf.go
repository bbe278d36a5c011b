// Package conf converts plain configuration structs to JSON and back.
//
// A configuration is data only: structs whose exported fields carry a
// `json:"name"` tag, maps with string keys, slices, strings, booleans, whole
// numbers, float64 and [time.Duration]. A duration is written as "5m" or "250ms".
// Fields without a name in their tag, or named "-", are ignored. Every function
// but [Clone] refuses a type that contains anything else, or itself.
//
// A fault starts with the path of the value at fault, or with "conf" for the
// document as a whole. It names what is allowed.
package conf

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	maxBytes  = 1 << 20 // length of a document
	maxDepth  = 32      // nested objects and lists
	maxKey    = 256     // bytes of one key, since faults repeat paths
	maxFaults = 100     // faults of one document that are spelled out
)

// Encode returns src, a configuration or a pointer to one, as JSON that is
// indented by two spaces and ends in a newline. Struct keys keep the order of
// the fields, map keys are sorted. A nil slice is written as [] and a nil map as
// {}. A field with the option omitzero is left out if it is zero.
func Encode(src any) ([]byte, error) {
	v := reflect.ValueOf(src)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if !v.IsValid() {
		return nil, errors.New("conf: want a configuration, got nil")
	}
	if err := check(v.Type(), v.Type().String(), 1); err != nil {
		return nil, err
	}
	var raw, out bytes.Buffer
	if err := encode(&raw, nil, v); err != nil {
		return nil, err
	}
	err := json.Indent(&out, bytes.TrimSpace(raw.Bytes()), "", "  ")
	return append(out.Bytes(), '\n'), err
}

// Unknown is a key without a field.
type Unknown struct {
	Path    string
	Allowed []string // the keys of the object that it stands in
}

// Decode reads the JSON object in data onto dst, a pointer to a struct. Keys
// that are absent leave their value as it is, scalars and lists replace it, and
// objects merge: a struct field by field, a map entry by entry.
//
// It returns the keys without a field, sorted by path; the caller decides whether
// they are an error. One joined error has all faults: the first 100 in full, the
// others as a count. On a fault dst is unchanged.
func Decode(data []byte, dst any) (unknown []Unknown, err error) {
	v, err := target(dst)
	if err != nil {
		return nil, err
	}
	if err := wellFormed(data); err != nil {
		return nil, err
	}
	d := decoder{tokens: json.NewDecoder(bytes.NewReader(data))}
	d.tokens.UseNumber()
	work := clone(v)
	d.value(nil, work)
	slices.SortFunc(d.unknown, func(a, b Unknown) int { return strings.Compare(a.Path, b.Path) })
	if more := d.count - len(d.faults); more > 0 {
		d.faults = append(d.faults, faultAt(nil, "faults not listed: %d", more))
	}
	if len(d.faults) > 0 {
		return d.unknown, errors.Join(d.faults...)
	}
	v.Set(work)
	return d.unknown, nil
}

// Set changes the value at a path of JSON keys joined by dots in dst, a pointer
// to a struct; on a fault dst is unchanged.
//
// A step through a map is a key, which is added if it is missing. A step through a
// list is an index or the value of an element's key "id", in this order of
// precedence. Without such a step the rest of the path applies to every element.
// The value is written as in JSON but without quotes. A boolean may also be yes or
// no. Commas separate a list of scalars, and none is an empty list of any type.
func Set(dst any, path, value string) error {
	v, err := target(dst)
	if err != nil {
		return err
	}
	steps := strings.Split(path, ".")
	odd := func(step string) bool { return step == "" || len(step) > maxKey || !utf8.ValidString(step) }
	if slices.ContainsFunc(steps, odd) {
		return faultAt(nil, "want keys of 1 to %d bytes joined by dots, such as idle.after, got %s", maxKey, quote(path))
	}
	work := clone(v)
	if err := set(work, nil, steps, value); err != nil {
		return err
	}
	v.Set(work)
	return nil
}

// Clone returns a copy of v that shares no map, slice or pointer with it.
// Unexported fields and kinds that no configuration contains are copied as they
// are.
func Clone[T any](v T) T {
	p := reflect.ValueOf(&v).Elem()
	p.Set(clone(p))
	return v
}

func clone(v reflect.Value) reflect.Value {
	out := reflect.New(v.Type()).Elem()
	out.Set(v)
	switch k := v.Kind(); {
	case k == reflect.Struct:
		for _, f := range out.Fields() {
			if f.CanSet() {
				f.Set(clone(f))
			}
		}
	case k == reflect.Map && !v.IsNil():
		out.Set(reflect.MakeMapWithSize(v.Type(), v.Len()))
		for it := v.MapRange(); it.Next(); {
			out.SetMapIndex(it.Key(), clone(it.Value()))
		}
	case k == reflect.Slice && !v.IsNil():
		out.Set(reflect.MakeSlice(v.Type(), v.Len(), v.Len()))
		for i := range v.Len() {
			out.Index(i).Set(clone(v.Index(i)))
		}
	case k == reflect.Pointer && !v.IsNil():
		out.Set(reflect.New(v.Type().Elem()))
		out.Elem().Set(clone(v.Elem()))
	}
	return out
}

// fieldsOf returns the fields of a struct that have a JSON name, by that name.
func fieldsOf(t reflect.Type) []reflect.StructField {
	var list []reflect.StructField
	for f := range t.Fields() {
		f.Name, _, _ = strings.Cut(f.Tag.Get("json"), ",")
		if f.IsExported() && f.Name != "" && f.Name != "-" {
			list = append(list, f)
		}
	}
	return list
}

// fieldNamed returns the field of the struct v, or an invalid value without one.
func fieldNamed(v reflect.Value, name string) reflect.Value {
	for _, f := range fieldsOf(v.Type()) {
		if f.Name == name {
			return v.FieldByIndex(f.Index)
		}
	}
	return reflect.Value{}
}

// entry returns a settable copy of the value of a key of the map v, or zero
// without one, and a function that stores it.
func entry(v reflect.Value, key string) (value reflect.Value, store func()) {
	k := reflect.ValueOf(key).Convert(v.Type().Key())
	value = reflect.New(v.Type().Elem()).Elem()
	if old := v.MapIndex(k); old.IsValid() {
		value.Set(old)
	}
	return value, func() {
		if v.IsNil() {
			v.Set(reflect.MakeMap(v.Type()))
		}
		v.SetMapIndex(k, value)
	}
}

// check refuses types that the walks below cannot handle. Types that contain
// themselves reach the depth limit. A type that passes is therefore a finite tree,
// and Decode can read everything that Encode writes.
func check(t reflect.Type, where string, depth int) error {
	switch form, _ := want(t); {
	case form == "":
		return fmt.Errorf("conf: %s: type %v is not supported", where, t)
	case isScalar(t):
		return nil
	case depth > maxDepth:
		return fmt.Errorf("conf: %s: type %v contains itself or is nested deeper than %d levels", where, t, maxDepth)
	case t.Kind() != reflect.Struct:
		return check(t.Elem(), where, depth+1)
	}
	fields := fieldsOf(t)
	for _, f := range fields {
		if err := check(f.Type, t.String()+"."+f.Name, depth+1); err != nil {
			return err
		}
	}
	if len(fields) == 0 {
		return fmt.Errorf("conf: %s: type %v has no exported field with a json tag", where, t)
	}
	return nil
}

// target returns the struct behind dst.
func target(dst any) (reflect.Value, error) {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return reflect.Value{}, fmt.Errorf("conf: want a non-nil pointer to a struct, got %T", dst)
	}
	v = v.Elem()
	return v, check(v.Type(), v.Type().String(), 1)
}

// want returns the JSON form of values of type t, and its description for faults.
// The form is "" if t is not supported.
func want(t reflect.Type) (form, text string) {
	switch k := t.Kind(); {
	case t == reflect.TypeFor[time.Duration]():
		return "string", `a duration such as "5m"`
	case k == reflect.String:
		return "string", "a string"
	case k == reflect.Bool:
		return "bool", "true or false"
	case k == reflect.Float64:
		return "number", "a finite number"
	case k >= reflect.Int && k <= reflect.Uint64:
		return "number", fmt.Sprintf("a whole number (%v)", k)
	case k == reflect.Slice:
		return "list", "a list"
	case k == reflect.Struct, k == reflect.Map && t.Key().Kind() == reflect.String:
		return "object", "an object"
	}
	return "", ""
}

func isScalar(t reflect.Type) bool {
	return !slices.Contains([]reflect.Kind{reflect.Struct, reflect.Map, reflect.Slice}, t.Kind())
}

// parse sets the scalar v and reports whether text is fit for it.
func parse(v reflect.Value, text string) bool {
	switch t := v.Type(); {
	case t == reflect.TypeFor[time.Duration]():
		d, err := time.ParseDuration(text)
		v.SetInt(int64(d))
		return err == nil
	case t.Kind() == reflect.String:
		v.SetString(text)
		return true
	case t.Kind() == reflect.Bool:
		v.SetBool(text == "true" || text == "yes")
		return v.Bool() || text == "false" || text == "no"
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, t.Bits())
		v.SetInt(n)
		return err == nil
	case v.CanUint():
		n, err := strconv.ParseUint(text, 10, t.Bits())
		v.SetUint(n)
		return err == nil
	}
	x, err := strconv.ParseFloat(text, 64)
	v.SetFloat(x)
	return err == nil && !math.IsInf(x, 0) && !math.IsNaN(x)
}

// Fault is a fault of a document, or of a value that is set.
type Fault struct {
	Path string // of the value; empty for the document itself
	Text string
}

// Error returns the path, or "conf" for the document itself, and the text.
func (f *Fault) Error() string { return cmp.Or(f.Path, "conf") + ": " + f.Text }

func faultAt(at trail, format string, args ...any) error {
	path := ""
	if len(at) > 0 {
		path = at.String()
	}
	return &Fault{path, fmt.Sprintf(format, args...)}
}

// trail is the path to a value in steps, see [keyStep].
type trail []string

func (t trail) String() string {
	if len(t) == 0 {
		return "conf"
	}
	return strings.TrimPrefix(strings.Join(t, ""), ".")
}

// keyStep returns ".key", or `["key"]` if the key is not a plain word.
func keyStep(key string) string {
	odd := func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("_-@:+", r)
	}
	if key == "" || len(key) > maxKey || strings.ContainsFunc(key, odd) {
		return fmt.Sprintf("[%.*q]", maxKey, key)
	}
	return "." + key
}

func indexStep(i int) string { return fmt.Sprintf("[%d]", i) }

// quote repeats the beginning of a refused text.
func quote(s string) string { return fmt.Sprintf("%.40q", s) }

// member is one key of an object.
type member struct {
	key   string
	value reflect.Value
}

func encode(buf *bytes.Buffer, at trail, v reflect.Value) error {
	var members []member
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			_, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			omit := slices.Contains(strings.Split(options, ","), "omitzero")
			if value := v.FieldByIndex(f.Index); !omit || !value.IsZero() {
				members = append(members, member{f.Name, value})
			}
		}
	case reflect.Map:
		for it := v.MapRange(); it.Next(); {
			members = append(members, member{it.Key().String(), it.Value()})
		}
		slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.key, b.key) })
	case reflect.Slice:
		buf.WriteByte('[')
		for i := range v.Len() {
			if i > 0 {
				buf.WriteByte(',')
			}
			if err := encode(buf, append(at, indexStep(i)), v.Index(i)); err != nil {
				return err
			}
		}
		buf.WriteByte(']')
		return nil
	default:
		return encodeScalar(buf, at, v)
	}
	buf.WriteByte('{')
	for i, m := range members {
		if i > 0 {
			buf.WriteByte(',')
		}
		at := append(at, keyStep(m.key))
		if err := encodeScalar(buf, at, reflect.ValueOf(m.key)); err != nil {
			return err
		}
		buf.WriteByte(':')
		if err := encode(buf, at, m.value); err != nil {
			return err
		}
	}
	buf.WriteByte('}')
	return nil
}

func encodeScalar(buf *bytes.Buffer, at trail, v reflect.Value) error {
	var plain any // without the methods of v, which may have JSON of their own
	switch {
	case v.Type() == reflect.TypeFor[time.Duration]():
		plain = formatDuration(time.Duration(v.Int()))
	case v.Kind() == reflect.String:
		if plain = v.String(); !utf8.ValidString(v.String()) {
			return faultAt(at, "want UTF-8 text, got %s", quote(v.String()))
		}
	case v.Kind() == reflect.Bool:
		plain = v.Bool()
	case v.CanInt():
		plain = v.Int()
	case v.CanUint():
		plain = v.Uint()
	default:
		plain = v.Float()
	}
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(plain); err != nil {
		return faultAt(at, "want a finite number, got %v", plain)
	}
	return nil
}

// formatDuration leaves out the units that are zero at the end: "5m", not "5m0s".
func formatDuration(d time.Duration) string {
	s := d.String()
	for _, end := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(s, end) {
			s = s[:len(s)-len("0s")]
		}
	}
	return s
}

// wellFormed checks that data is one JSON value within the limits of size, so that
// the decoder below can rely on its tokens.
func wellFormed(data []byte) error {
	if len(data) > maxBytes {
		return faultAt(nil, "want at most %d bytes, got %d", maxBytes, len(data))
	}
	if !utf8.Valid(data) {
		return faultAt(nil, "want UTF-8 text, got other bytes")
	}
	var value json.RawMessage
	err := json.Unmarshal(data, &value)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		before := data[:max(syntax.Offset-1, 0)] // the offset is behind the byte in question
		line, column := 1+bytes.Count(before, []byte("\n")), len(before)-bytes.LastIndexByte(before, '\n')
		return faultAt(nil, "line %d, column %d: %v", line, column, err)
	}
	return err
}

// decoder walks tokens and values together. Below an unknown key or a fault the
// value is the zero [reflect.Value], since nothing is set.
type decoder struct {
	tokens  *json.Decoder
	unknown []Unknown
	faults  []error
	count   int // of all faults, listed or not
}

func (d *decoder) fault(at trail, format string, args ...any) {
	if len(at) > maxDepth {
		return // below a fault of depth
	}
	if d.count++; d.count <= maxFaults {
		d.faults = append(d.faults, faultAt(at, format, args...))
	}
}

func (d *decoder) value(at trail, v reflect.Value) {
	tok, _ := d.tokens.Token()
	if _, deeper := tok.(json.Delim); deeper && len(at) == maxDepth {
		d.fault(at, "nested deeper than %d levels", maxDepth)
		v = reflect.Value{}
	}
	if v.IsValid() && !d.fits(at, v, tok) {
		v = reflect.Value{}
	}
	switch tok {
	case json.Delim('{'):
		d.object(at, v)
		d.tokens.Token() // the closing delimiter
	case json.Delim('['):
		d.list(at, v)
		d.tokens.Token()
	}
}

// fits sets v if tok is a scalar, and reports whether tok has the form of v.
func (d *decoder) fits(at trail, v reflect.Value, tok json.Token) bool {
	form, wanted := want(v.Type())
	is, got := "number", fmt.Sprintf("%.40v", tok)
	switch tok := tok.(type) {
	case nil:
		d.fault(at, "must not be null, want %s", wanted)
		return false
	case json.Delim:
		is, got = "object", "an object"
		if tok == '[' {
			is, got = "list", "a list"
		}
	case string:
		is, got = "string", quote(tok)
	case bool:
		is = "bool"
	}
	if is == form && (!isScalar(v.Type()) || parse(v, fmt.Sprint(tok))) {
		return true
	}
	d.fault(at, "want %s, got %s", wanted, got)
	return false
}

func (d *decoder) list(at trail, v reflect.Value) {
	if v.IsValid() {
		v.Set(reflect.MakeSlice(v.Type(), 0, 0))
	}
	for i := 0; d.tokens.More(); i++ {
		var elem reflect.Value
		if v.IsValid() {
			v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
			elem = v.Index(i)
		}
		d.value(append(at, indexStep(i)), elem)
	}
}

func (d *decoder) object(at trail, v reflect.Value) {
	if v.IsValid() && v.Kind() == reflect.Map && v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	seen := map[string]bool{}
	for d.tokens.More() {
		tok, _ := d.tokens.Token()
		key, _ := tok.(string)
		at := append(at, keyStep(key))
		var value reflect.Value
		store := func() {}
		switch {
		case seen[key]:
			d.fault(at, "given twice in one object, want it once")
		case len(key) > maxKey:
			d.fault(at, "want a key of at most %d bytes, got %d", maxKey, len(key))
		case !v.IsValid(): // nothing to set
		case v.Kind() == reflect.Map:
			value, store = entry(v, key)
		default:
			if value = fieldNamed(v, key); !value.IsValid() {
				d.unknown = append(d.unknown, Unknown{at.String(), ways(v)})
			}
		}
		seen[key] = true
		d.value(at, value)
		store()
	}
}

// set changes the value that the steps lead to within v, which stands at the trail.
func set(v reflect.Value, at trail, steps []string, value string) error {
	if len(steps) == 0 {
		return assign(v, at, value)
	}
	next := append(at, keyStep(steps[0]))
	switch v.Kind() {
	case reflect.Struct:
		if f := fieldNamed(v, steps[0]); f.IsValid() {
			return set(f, next, steps[1:], value)
		}
	case reflect.Map:
		elem, store := entry(v, steps[0])
		err := set(elem, next, steps[1:], value)
		store()
		return err
	case reflect.Slice:
		if v.Len() == 0 {
			return faultAt(at, "the list has no elements")
		}
		i := slices.Index(ids(v), steps[0])
		if n, err := strconv.ParseUint(steps[0], 10, 31); err == nil && int(n) < v.Len() {
			i = int(n)
		}
		if i >= 0 {
			return set(v.Index(i), next, steps[1:], value)
		}
		if every := ways(v.Index(0)); !slices.Contains(every, steps[0]) && !slices.Contains(every, anyKey) {
			break
		}
		for i := range v.Len() {
			if err := set(v.Index(i), at, steps, value); err != nil {
				return err
			}
		}
		return nil
	default:
		_, wanted := want(v.Type())
		return faultAt(next, "unknown key, %v is %s and has no keys", at, wanted)
	}
	return faultAt(next, "unknown key, allowed: %s", strings.Join(ways(v), ", "))
}

// ids returns the value of the key "id" of every element of the list v, or nil if
// its elements have no such string.
func ids(v reflect.Value) (list []string) {
	for i := range v.Len() {
		if elem := v.Index(i); elem.Kind() == reflect.Struct {
			if id := fieldNamed(elem, "id"); id.Kind() == reflect.String {
				list = append(list, id.String())
			}
		}
	}
	return list
}

const anyKey = "any key"

// ways lists the steps that lead on from v: the steps of a list, and then the
// steps that apply to each of its elements.
func ways(v reflect.Value) (list []string) {
	switch v.Kind() {
	case reflect.Struct:
		for _, f := range fieldsOf(v.Type()) {
			list = append(list, f.Name)
		}
	case reflect.Map:
		list = append(list, anyKey)
	case reflect.Slice:
		list = append(list, fmt.Sprintf("an index below %d", v.Len()))
		list = append(list, ids(v)...)
		list = append(list, ways(reflect.Zero(v.Type().Elem()))...)
	}
	return list
}

// assign sets v, at the end of the path, to the value.
func assign(v reflect.Value, at trail, value string) error {
	t := v.Type()
	_, wanted := want(t)
	if !utf8.ValidString(value) {
		return faultAt(at, "want UTF-8 text, got %s", quote(value))
	}
	if isScalar(t) {
		if !parse(v, value) {
			return faultAt(at, "want %s, got %s", wanted, quote(value))
		}
		return nil
	}
	switch {
	case t.Kind() != reflect.Slice:
		return faultAt(at, "%s cannot be set as a whole, go on with: %s", wanted, strings.Join(ways(v), ", "))
	case value == "none":
		v.Set(reflect.MakeSlice(t, 0, 0))
		return nil
	case !isScalar(t.Elem()):
		return faultAt(at, `want "none", or go on with: %s`, strings.Join(ways(v), ", "))
	}
	v.Set(reflect.MakeSlice(t, 0, 0))
	for part := range strings.SplitSeq(value, ",") {
		elem := reflect.New(t.Elem()).Elem()
		part = strings.TrimSpace(part)
		if part == "" || !parse(elem, part) {
			_, wanted := want(t.Elem())
			return faultAt(at, `want "none" or a list separated by commas, each %s, got %s`, wanted, quote(value))
		}
		v.Set(reflect.Append(v, elem))
	}
	return nil
}
