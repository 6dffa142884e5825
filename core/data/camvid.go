package data

// camVid are the colors of CamVid's masks, by the names in its label_colors.txt:
// all 32 in the order of that file, and the 11 that SegNet has merged them to and
// the literature scores, where void is ignored.
var camVid = []Legend{
	{
		{0x408040}, // Animal
		{0xc00080}, // Archway
		{0x0080c0}, // Bicyclist
		{0x008040}, // Bridge
		{0x800000}, // Building
		{0x400080}, // Car
		{0x4000c0}, // CartLuggagePram
		{0xc08040}, // Child
		{0xc0c080}, // Column_Pole
		{0x404080}, // Fence
		{0x8000c0}, // LaneMkgsDriv
		{0xc00040}, // LaneMkgsNonDriv
		{0x808040}, // Misc_Text
		{0xc000c0}, // MotorcycleScooter
		{0x804040}, // OtherMoving
		{0x40c080}, // ParkingBlock
		{0x404000}, // Pedestrian
		{0x804080}, // Road
		{0x8080c0}, // RoadShoulder
		{0x0000c0}, // Sidewalk
		{0xc08080}, // SignSymbol
		{0x808080}, // Sky
		{0x4080c0}, // SUVPickupTruck
		{0x000040}, // TrafficCone
		{0x004040}, // TrafficLight
		{0xc04080}, // Train
		{0x808000}, // Tree
		{0xc080c0}, // Truck_Bus
		{0x400040}, // Tunnel
		{0xc0c000}, // VegetationMisc
		{0x000000}, // Void
		{0x40c000}, // Wall
	},
	{
		{0x808080}, // sky: Sky
		{0xc00080, 0x008040, 0x800000, 0x400040, 0x40c000}, // building: Archway, Bridge, Building, Tunnel, Wall
		{0xc0c080, 0x000040},                               // pole: Column_Pole, TrafficCone
		{0x8000c0, 0xc00040, 0x804080},                     // road: LaneMkgsDriv, LaneMkgsNonDriv, Road
		{0x40c080, 0x8080c0, 0x0000c0},                     // pavement: ParkingBlock, RoadShoulder, Sidewalk
		{0x808000, 0xc0c000},                               // tree: Tree, VegetationMisc
		{0x808040, 0xc08080, 0x004040},                     // sign: Misc_Text, SignSymbol, TrafficLight
		{0x404080},                                         // fence: Fence
		{0x400080, 0x804040, 0x4080c0, 0xc04080, 0xc080c0}, // car: Car, OtherMoving, SUVPickupTruck, Train, Truck_Bus
		{0x408040, 0x4000c0, 0xc08040, 0x404000},           // pedestrian: Animal, CartLuggagePram, Child, Pedestrian
		{0x0080c0, 0xc000c0},                               // bicyclist: Bicyclist, MotorcycleScooter
	},
}
