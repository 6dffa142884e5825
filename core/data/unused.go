package data

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/loralab/loralab/core/plural"
)

// Unused names what lies in the folder of a data set, looks as if it belonged to
// it, and is not used. Data sets that are published hold much else, so nothing is
// said of them.
func (l *Layout) Unused(dir string) []string {
	if l.Needs != nil {
		return nil
	}
	named, err := partFolders(dir, "images")
	if err != nil {
		return nil // which is an error of Parts
	}
	var roots []string // folders with images/ and masks/
	divided := named["train"] != "" || named["test"] != ""
	if divided {
		for _, role := range Roles {
			if named[role] != "" {
				roots = append(roots, named[role])
			}
		}
	} else {
		roots = []string{"."}
	}
	var notes []string
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasPrefix(name, ".") || !isDir(dir, name) || divided && slices.Contains(roots, name):
		case divided && (name == "images" || name == "masks"):
			notes = append(notes, fmt.Sprintf("%s/ in addition to %s/", name, strings.Join(roots, "/ and ")))
		case !isDir(dir, name, "images"):
		case partOf(name) != "": // val alone
			notes = append(notes, fmt.Sprintf("%s/, as there is no train/ and no test/", name))
		default:
			notes = append(notes, fmt.Sprintf("%s/, which has images/ in it and is not called train, val or test", name))
		}
	}
	for _, root := range roots {
		if isDir(dir, root, maskFolders[0]) && isDir(dir, root, filepath.FromSlash(maskFolders[1])) {
			notes = append(notes, fmt.Sprintf("%s/ in addition to %s/", path.Join(root, maskFolders[1]), path.Join(root, maskFolders[0])))
		}
		notes = append(notes, unusedIn(dir, root)...)
		for _, folder := range []string{"images", maskFolder(filepath.Join(dir, root))} {
			if !divided {
				notes = append(notes, undivided(dir, folder)...)
			}
			l, err := list(filepath.Join(dir, root), folder)
			if err != nil {
				continue
			}
			notes = append(notes, strangers(path.Join(root, folder), l.strange)...)
		}
	}
	return notes
}

// unusedIn counts the pictures that lie where only folders are looked into.
func unusedIn(dir, root string) []string {
	entries, err := os.ReadDir(filepath.Join(dir, root))
	if err != nil {
		return nil
	}
	n := 0
	for _, e := range entries {
		ending := strings.ToLower(path.Ext(e.Name()))
		if _, picture := readable[ending]; (picture || foreign[ending]) && !strings.HasPrefix(e.Name(), ".") {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s outside %s/", pictureCount(n), path.Join(root, "images"))}
}

// undivided are pictures in a folder that is divided by the folders in it.
func undivided(dir, folder string) []string {
	named, err := partFolders(filepath.Join(dir, filepath.FromSlash(folder)), ".")
	if err != nil || named["train"] == "" && named["test"] == "" {
		return nil
	}
	l, err := list(dir, folder)
	if err != nil {
		return nil
	}
	n := 0
	for _, p := range l.pictures {
		part, _, below := strings.Cut(strings.TrimPrefix(p, folder+"/"), "/")
		if role := partOf(part); !below || named[role] != part {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("%s in %s/ outside the folders of parts", pictureCount(n), folder)}
}

func pictureCount(n int) string { return plural.Of(n, "picture") }

// strangers names files that are no pictures that are known.
func strangers(folder string, files []string) []string {
	if len(files) == 0 {
		return nil
	}
	const shown = 3
	var names []string
	for _, f := range files[:min(shown, len(files))] {
		names = append(names, path.Base(f))
	}
	if len(files) > shown {
		names = append(names, "…")
	}
	return []string{fmt.Sprintf("%s in %s/ that %s no ending of a picture (%s)", plural.Of(len(files), "file"), folder, plural.Form(len(files), "has", "have"), strings.Join(names, ", "))}
}

// UnusedPictures is Unused of a folder of pictures alone, as Pictures lists them.
func UnusedPictures(dir string) []string {
	folder := imageFolder(dir)
	var notes []string
	if folder != "." {
		notes = unusedIn(dir, ".")
	}
	if l, err := list(dir, folder); err == nil {
		notes = append(notes, strangers(path.Clean(folder), l.strange)...)
	}
	return notes
}
