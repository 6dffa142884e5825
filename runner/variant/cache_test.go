package variant

import "testing"

// trial-reliability 27: a damaged list of sums is not believed.
func TestSealedJSON(t *testing.T) {
	was := map[string]summed{"/plugins/lora": {SHA256: "00ff"}}
	sealed, err := sealJSON(was)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]summed
	if !unsealJSON(sealed, &got) || got["/plugins/lora"] != was["/plugins/lora"] {
		t.Errorf("read back as %v", got)
	}
	for i := range sealed {
		for bit := range 8 {
			damaged := append([]byte{}, sealed...)
			damaged[i] ^= 1 << bit
			var got map[string]summed
			if unsealJSON(damaged, &got) && got["/plugins/lora"] != was["/plugins/lora"] {
				t.Errorf("believed: %s", damaged)
			}
		}
	}
}
