"""One safetensors file, read by offset and written piece by piece.

Reading goes through plain reads into fresh memory, not through a memory map: mapped pages would
stay resident as long as the file is open, and a checkpoint may be larger than memory.
"""
