"""How fast is the exact selection, against others?"""
