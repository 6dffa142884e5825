// Package published writes data sets in the layouts that they are published in, some
// small pictures of each part, for tests.
package published

import (
	"fmt"
	"image"
	"image/color"
	"image/png"
	"os"
	"path/filepath"
	"strings"
)

// side is the height and width of the pictures.
const side = 16

// Write writes a data set of a layout: for "voc" and "vocAug" masks with a palette,
// for "cityscapes" label ids, for "ade20k" 0 to 150. Three images are trained on, six
// of "vocAug", and two are tested on. A mistake is "trainIds", "reduced" or "colors",
// for such masks that were converted, or "".
func Write(layout, dir, mistake string) error {
	number := 0
	pair := func(picture, mask string, most int) error {
		number++
		drawn := image.NewRGBA(image.Rect(0, 0, side, side))
		for i := range drawn.Pix {
			drawn.Pix[i] = byte(i*number) | byte(i%4/3*255)
		}
		if err := write(filepath.Join(dir, picture), drawn); err != nil {
			return err
		}
		var palette color.Palette
		for i := range 256 {
			palette = append(palette, color.RGBA{byte(i), byte(3 * i), byte(7 * i), 255})
		}
		labels := image.NewPaletted(drawn.Rect, palette)
		for i := range labels.Pix {
			if labels.Pix[i] = byte((i*number + i/side) % (most + 1)); i%side == 0 && (layout == "voc" || layout == "vocAug" || mistake != "") {
				labels.Pix[i] = 255
			}
		}
		var m image.Image = labels
		if mistake == "colors" {
			rgb := image.NewRGBA(drawn.Rect)
			for y := range side {
				for x := range side {
					rgb.Set(x, y, labels.At(x, y))
				}
			}
			m = rgb
		} else if layout != "voc" || strings.Contains(mask, "Aug/") {
			m = &image.Gray{Pix: labels.Pix, Stride: labels.Stride, Rect: labels.Rect}
		}
		return write(filepath.Join(dir, mask), m)
	}
	switch layout {
	case "voc", "vocAug":
		lists := map[string][]string{"train": {"2007_000032", "2007_000039", "2007_000063"}, "val": {"2007_000033", "2007_000042"}}
		if layout == "vocAug" {
			lists["trainaug"] = append(lists["train"], "2008_000002", "2008_000003", "2008_000007")
		}
		seen := map[string]bool{}
		for _, list := range []string{"train", "val", "trainaug"} {
			for _, stem := range lists[list] {
				folder := "SegmentationClass"
				if list == "trainaug" {
					folder += "Aug"
				}
				if seen[stem] {
					continue
				}
				seen[stem] = true
				if err := pair("JPEGImages/"+stem+".png", folder+"/"+stem+".png", 20); err != nil {
					return err
				}
			}
			if len(lists[list]) == 0 {
				continue
			}
			file := filepath.Join(dir, "ImageSets/Segmentation", list+".txt")
			if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
				return err
			}
			if err := os.WriteFile(file, []byte(strings.Join(lists[list], "\n")+"\n"), 0o666); err != nil {
				return err
			}
		}
		return nil
	case "cityscapes":
		most := 33
		if mistake == "trainIds" {
			most = 18
		}
		for i, city := range []string{"train/aachen", "train/bochum", "train/bochum", "val/lindau", "val/munster"} {
			name := fmt.Sprintf("%s/%s_%06d_000019", city, filepath.Base(city), i)
			if err := pair("leftImg8bit/"+name+"_leftImg8bit.png", "gtFine/"+name+"_gtFine_labelIds.png", most); err != nil {
				return err
			}
		}
		return nil
	case "ade20k":
		most := 150
		if mistake == "reduced" {
			most = 149
		}
		for i, part := range []string{"training/ADE_train", "training/ADE_train", "training/ADE_train", "validation/ADE_val", "validation/ADE_val"} {
			name := fmt.Sprintf("%s_%08d", part, i)
			if err := pair("images/"+name+".png", "annotations/"+name+".png", most); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("there is no published layout %q", layout)
}

func write(file string, m image.Image) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o777); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	return png.Encode(f, m)
}
