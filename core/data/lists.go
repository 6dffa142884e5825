package data

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/plural"
	"github.com/loralab/loralab/core/regular"
)

// A division of a data set is published as lists: which image is in which part.

// listHeader are the columns of a list of all parts. The last two may be left out.
var listHeader = []string{"image", "part", "image_sha256", "mask_sha256"}

// Listed are the names of images by part.
type Listed map[string][]Line

// Line is a line of a list.
type Line struct {
	Name string
	At   string // file:line
	// Sums are the SHA-256 of the image and of its mask, in hex; "" if the list does
	// not have it.
	Sums [2]string
}

// ReadParts reads which image is in which part: of a CSV with the columns image
// and part, or of a folder with train.txt, val.txt and test.txt, an image a line.
// Lines that begin with # say nothing.
func ReadParts(from string) (Listed, error) {
	info, err := os.Stat(from)
	if err != nil {
		return nil, fmt.Errorf("reading the parts of the data: %w", err)
	}
	out := Listed{}
	add := func(role string, line Line) { out[role] = append(out[role], line) }
	if !info.IsDir() {
		content, err := regular.Read(from, mostList)
		if err != nil {
			return nil, fmt.Errorf("reading the parts of the data: %w", err)
		}
		return out, readCSV(from, content, add)
	}
	for _, role := range Roles {
		file := filepath.Join(from, role+".txt")
		content, err := regular.Read(file, mostList)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		} else if err != nil {
			return nil, fmt.Errorf("reading the parts of the data: %w", err)
		}
		readNames(role, file, content, add)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s has no train.txt, val.txt or test.txt with names of images", from)
	}
	return out, nil
}

// readNames reads an image a line.
func readNames(role, file string, content []byte, add func(role string, line Line)) {
	n := 0
	for text := range strings.Lines(string(withoutBOM(content))) {
		n++
		if name := strings.TrimSpace(text); name != "" && !strings.HasPrefix(name, "#") {
			add(role, Line{Name: name, At: fmt.Sprintf("%s:%d", file, n)})
		}
	}
}

// mostList bounds a list of images.
const mostList = 256 << 20

// withoutBOM is a text without the mark that editors of Windows put before it.
func withoutBOM(text []byte) []byte { return bytes.TrimPrefix(text, []byte("\ufeff")) }

func readCSV(file string, content []byte, add func(role string, line Line)) error {
	r := csv.NewReader(bytes.NewReader(withoutBOM(content)))
	r.Comment = '#'
	header, err := r.Read()
	image, part := slices.Index(header, listHeader[0]), slices.Index(header, listHeader[1])
	if err != nil || image < 0 || part < 0 {
		return fmt.Errorf("%s:1: a CSV of parts begins with the line %q", file, strings.Join(listHeader[:2], ","))
	}
	sums := [2]int{slices.Index(header, listHeader[2]), slices.Index(header, listHeader[3])}
	for {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		line, _ := r.FieldPos(0)
		if !slices.Contains(Roles, row[part]) {
			return fmt.Errorf("%s:%d: there is no part %q, only %s", file, line, row[part], strings.Join(Roles, ", "))
		}
		read := Line{Name: row[image], At: fmt.Sprintf("%s:%d", file, line)}
		for i, column := range sums {
			if column >= 0 {
				read.Sums[i] = strings.ToLower(strings.TrimSpace(row[column]))
			}
		}
		add(row[part], read)
	}
}

// Divide is the files by part as they are listed, and those that no list has. An
// image is listed by its path below the root, that below images/ without an ending,
// or its stem; of a line with several words the first may be it. One ListError has
// the lines that fit no image or several, and images that are in two parts.
func (f Files) Divide(lists Listed) (parts map[string]Files, rest Files, err error) {
	find := f.finder()
	var faults []string
	taken := make([]string, f.Len()) // by part and place
	members := map[string][]int{}
	for _, role := range Roles {
		for _, line := range lists[role] {
			at := find(line.Name)
			switch {
			case len(at) == 0:
				faults = append(faults, fmt.Sprintf("%s: there is no image %q", line.At, line.Name))
			case len(at) > 1:
				faults = append(faults, fmt.Sprintf("%s: %q may be %s or %s: write the path", line.At, line.Name, f.Images[at[0]], f.Images[at[1]]))
			case taken[at[0]] != "":
				faults = append(faults, fmt.Sprintf("%s: %s stands at %s already", line.At, f.Images[at[0]], taken[at[0]]))
			default:
				taken[at[0]] = line.At
				members[role] = append(members[role], at[0])
			}
		}
	}
	if len(faults) > 0 {
		return nil, Files{}, &ListError{faults}
	}
	parts = map[string]Files{}
	for role, list := range members {
		parts[role] = f.pick(list)
	}
	var left []int
	for i, place := range taken {
		if place == "" {
			left = append(left, i)
		}
	}
	return parts, f.pick(left), nil
}

// finder returns the images that a line of a list may be.
func (f Files) finder() func(name string) []int {
	byName := map[string][]int{}
	for i, name := range f.Images {
		name = composed(name)
		byName[name] = append(byName[name], i)
		for _, short := range slices.Compact([]string{stem(name), nameOf(name)}) {
			if short != name {
				byName[short] = append(byName[short], i)
			}
		}
	}
	return func(name string) []int {
		name = composed(name)
		first := name
		if words := strings.Fields(name); len(words) > 0 {
			first = words[0]
		}
		for _, n := range []string{name, withoutEnding(name), stem(name), first, withoutEnding(first), stem(first)} {
			if at := byName[n]; len(at) > 0 {
				return at
			}
		}
		return nil
	}
}

// Compare compares images and masks with the SHA-256 that lists have of them. A
// ListError has the lines of the files with another content. The lists divide the
// files, see Divide.
func (f Files) Compare(ctx context.Context, x *Index, lists Listed) error {
	find := f.finder()
	var paths, want, places []string
	for _, role := range Roles {
		for _, line := range lists[role] {
			for k, sum := range line.Sums {
				if sum == "" {
					continue
				}
				i := find(line.Name)[0]
				paths, want, places = append(paths, [][]string{f.Images, f.Masks}[k][i]), append(want, sum), append(places, line.At)
			}
		}
	}
	if len(paths) == 0 {
		return nil
	}
	sums, err := f.sums(ctx, x, paths)
	if err != nil {
		return err
	}
	var faults []string
	for i, sum := range sums {
		if now := hex.EncodeToString(sum[:]); now != want[i] {
			faults = append(faults, fmt.Sprintf("%s: %s has the SHA-256 %.12s…, and the list has %.12s…", places[i], paths[i], now, want[i]))
		}
	}
	if len(faults) > 0 {
		return &ListError{faults}
	}
	return nil
}

// ListError is all that is wrong with lists of images.
type ListError struct{ Faults []string } // one line each, its place first

func (e *ListError) Error() string {
	const shown = 20
	list := e.Faults[:min(shown, len(e.Faults))]
	text := fmt.Sprintf("%s not fit the images:\n  %s", plural.Form(len(e.Faults), "1 line does", fmt.Sprintf("%d lines do", len(e.Faults))), strings.Join(list, "\n  "))
	if more := len(e.Faults) - len(list); more > 0 {
		text += fmt.Sprintf("\n  and %d more", more)
	}
	return text
}

// WriteParts writes the list that ReadParts reads, with the SHA-256 of each image
// and mask, of which Digest is made. Names are those below root.
func WriteParts(ctx context.Context, x *Index, w io.Writer, root string, parts map[string]Files) error {
	out := csv.NewWriter(w)
	if err := out.Write(listHeader); err != nil {
		return err
	}
	for _, role := range Roles {
		f, ok := parts[role]
		if !ok {
			continue
		}
		sums, err := f.sums(ctx, x, f.pairs())
		if err != nil {
			return fmt.Errorf("listing the data in %s: %w", f.Root, err)
		}
		joined := Pool(root, map[string]Files{role: f})
		for i, name := range joined.Images {
			if err := out.Write([]string{name, role, hex.EncodeToString(sums[2*i][:]), hex.EncodeToString(sums[2*i+1][:])}); err != nil {
				return err
			}
		}
	}
	out.Flush()
	return out.Error()
}
