{
 "schema": 1,
 "slug": "foundations",
 "profile": "quick",
 "created": "2026-11-21T10:42:18+00:00",
 "commit": "1a3ac71440eca15f5fdea9c76ec1ef48ed9c1c6c",
 "dirty": false,
 "method": "b0e228a88a3a5760afde3152bf7c0835d0bde5d1e1e85ee6e48d84a4f07fda59",
 "notebook": "0d0a7cf1809810f18478d0b2f295482ca70264af157b99ea3e7b7adc8c131d1d",
 "device": {
  "kind": "cpu",
  "name": "Intel(R) Xeon(R) Processor",
  "threads": 2
 },
 "versions": {
  "compactvision": "0.1.0",
  "python": "3.11.7",
  "torch": "2.11.0+cu130",
  "torchvision": "0.26.0",
  "numpy": "2.4.6"
 },
 "data": [
  {
   "name": "glyphs/train",
   "provenance": "generated glyphs (medium, 'ABEFGOQRS8', fonts all, outlines 5514c4c4, seed 0, 6000 images)",
   "digest": "4410666ba78b5ccde17384be1d6205b74c71dec7e74ee62f99f02e30410a3d84"
  },
  {
   "name": "glyphs/test",
   "provenance": "generated glyphs (medium, 'ABEFGOQRS8', fonts all, outlines 5514c4c4, seed 0, 2000 images)",
   "digest": "9e71c2b5ca75528a903ced238141d110d951e1847a93a2c3261acde62f355bfc"
  }
 ],
 "runs": [
  {
   "seed": 0,
   "seconds": 60.18,
   "peak_memory_mb": 955.1,
   "values": {
    "resnet20.parameters": 269722,
    "resnet20.macs": 40551040,
    "resnet32.parameters": 464154,
    "resnet32.macs": 68862592,
    "resnet56.parameters": 853018,
    "resnet56.macs": 125485696,
    "resnet110.parameters": 1727962,
    "resnet110.macs": 252887680,
    "resnet56.operations_per_mac": 2.0,
    "time.narrower": 0.5639837889390379,
    "time.masked": 1.1152218751372476,
    "rate.depthwise": 0.14078732045326173,
    "mask.macs_saved": 0,
    "mask.largest_difference": 0.0,
    "whole.accuracy": 0.9275,
    "whole.macs": 3392128,
    "half.accuracy": 0.9145,
    "half.macs": 1698488
   },
   "peak_gpu_memory_mb": null
  },
  {
   "seed": 1,
   "seconds": 62.27,
   "peak_memory_mb": 954.3,
   "values": {
    "resnet20.parameters": 269722,
    "resnet20.macs": 40551040,
    "resnet32.parameters": 464154,
    "resnet32.macs": 68862592,
    "resnet56.parameters": 853018,
    "resnet56.macs": 125485696,
    "resnet110.parameters": 1727962,
    "resnet110.macs": 252887680,
    "resnet56.operations_per_mac": 2.0,
    "time.narrower": 0.43552056466812183,
    "time.masked": 1.0894550829859444,
    "rate.depthwise": 0.11175267912958683,
    "mask.macs_saved": 0,
    "mask.largest_difference": 0.0,
    "whole.accuracy": 0.9285,
    "whole.macs": 3392128,
    "half.accuracy": 0.911,
    "half.macs": 1698488
   },
   "peak_gpu_memory_mb": null
  },
  {
   "seed": 2,
   "seconds": 62.38,
   "peak_memory_mb": 1004.3,
   "values": {
    "resnet20.parameters": 269722,
    "resnet20.macs": 40551040,
    "resnet32.parameters": 464154,
    "resnet32.macs": 68862592,
    "resnet56.parameters": 853018,
    "resnet56.macs": 125485696,
    "resnet110.parameters": 1727962,
    "resnet110.macs": 252887680,
    "resnet56.operations_per_mac": 2.0,
    "time.narrower": 0.47647179172582954,
    "time.masked": 1.0080167340244235,
    "rate.depthwise": 0.16521807211639103,
    "mask.macs_saved": 0,
    "mask.largest_difference": 0.0,
    "whole.accuracy": 0.9225,
    "whole.macs": 3392128,
    "half.accuracy": 0.908,
    "half.macs": 1698488
   },
   "peak_gpu_memory_mb": null
  }
 ],
 "bands": {
  "resnet20.parameters": 0.0,
  "resnet20.macs": 0.0,
  "resnet32.parameters": 0.0,
  "resnet32.macs": 0.0,
  "resnet56.parameters": 0.0,
  "resnet56.macs": 0.0,
  "resnet110.parameters": 0.0,
  "resnet110.macs": 0.0,
  "resnet56.operations_per_mac": 0.0,
  "mask.macs_saved": 0.0,
  "mask.largest_difference": 1e-05,
  "whole.accuracy": 0.02,
  "whole.macs": 0.0,
  "half.accuracy": 0.02,
  "half.macs": 0.0
 },
 "digest": "59a0ab999fbbbd4ebaaecfbafd278db65cdec8861131dbe9f0bae1de5c3db70c"
}
